// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package tags

import (
	"context"
	"errors"
	"io"

	"github.com/distribution/distribution/v3"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/response"
)

// Repository returns the tags of a repository, for Distribution.
func (s *Service) Repository(name string) distribution.TagService {
	return &repository{service: s, name: name}
}

type repository struct {
	service *Service
	name    string
}

// Get implements distribution.TagService.
func (r *repository) Get(ctx context.Context, tag string) (v1.Descriptor, error) {
	d, err := r.service.Resolve(ctx, r.name, tag)
	if err != nil {
		return v1.Descriptor{}, response.Error(ctx, err, distribution.ErrTagUnknown{Tag: tag})
	}
	return v1.Descriptor{Digest: d}, nil
}

// All implements distribution.TagService.
func (r *repository) All(ctx context.Context) ([]string, error) {
	tags, err := r.List(ctx, -1, "")
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return tags, err
}

// List implements distribution.TagService. The error io.EOF marks the last page.
func (r *repository) List(ctx context.Context, limit int, last string) ([]string, error) {
	p, err := r.service.lists.get(ctx, query{r.name, limit, last})
	response.From(ctx).Extend()
	switch {
	case err != nil:
		return nil, response.Error(ctx, err, distribution.ErrRepositoryUnknown{Name: r.name})
	case p.more:
		return p.tags, nil
	}
	return p.tags, io.EOF
}

// Tag implements distribution.TagService. A client must not decide what others get while the upstream is down.
func (*repository) Tag(context.Context, string, v1.Descriptor) error {
	return distribution.ErrUnsupported
}

// Untag implements distribution.TagService.
func (*repository) Untag(context.Context, string) error { return distribution.ErrUnsupported }

// Lookup implements distribution.TagService.
func (*repository) Lookup(context.Context, v1.Descriptor) ([]string, error) {
	return nil, distribution.ErrUnsupported
}
