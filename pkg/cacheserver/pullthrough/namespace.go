// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/reference"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/response"
)

// namespace is Distribution's registry with repositories that fetch missing content from the upstream.
type namespace struct {
	distribution.Namespace
	engine *Engine
}

// Repository implements distribution.Namespace.
func (n *namespace) Repository(ctx context.Context, name reference.Named) (distribution.Repository, error) {
	if !n.engine.gate.Passed(ctx, name.Name()) {
		return nil, distribution.ErrRepositoryUnknown{Name: name.Name()}
	}
	return &repository{engine: n.engine, name: name}, nil
}

// Repositories implements distribution.Namespace.
func (n *namespace) Repositories(ctx context.Context, repositories []string, last string) (int, error) {
	if n.engine.gate != nil {
		return 0, distribution.ErrUnsupported // The gate refuses such requests.
	}
	defer response.From(ctx).Extend()
	return n.Namespace.Repositories(ctx, repositories, last)
}

// Close ends the engine with Distribution's application.
func (n *namespace) Close() error { return n.engine.Close() }

type repository struct {
	engine *Engine
	name   reference.Named
}

// ownedName is a repository's name with a reference to the repository, so that withoutEvents can unwrap it.
type ownedName struct {
	reference.Named
	owner *repository
}

// Named implements distribution.Repository.
func (r *repository) Named() reference.Named { return ownedName{r.name, r} }

// Manifests implements distribution.Repository.
func (r *repository) Manifests(context.Context, ...distribution.ManifestServiceOption) (distribution.ManifestService, error) {
	return r.engine.manifests.Repository(r.name.Name()), nil
}

// Blobs implements distribution.Repository.
func (r *repository) Blobs(context.Context) distribution.BlobStore {
	return r.engine.blobs.Repository(r.name.Name())
}

// Tags implements distribution.Repository.
func (r *repository) Tags(context.Context) distribution.TagService {
	return r.engine.tags.Repository(r.name.Name())
}
