// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"net/url"
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/reference"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

// namespace is what Distribution sees: its own registry, whose repositories fetch what they miss.
type namespace struct {
	distribution.Namespace
	engine *Engine
}

// Repository implements distribution.Namespace.
func (n *namespace) Repository(_ context.Context, name reference.Named) (distribution.Repository, error) {
	return &repository{namespace: n, name: name}, nil
}

// Repositories implements distribution.Namespace.
func (n *namespace) Repositories(ctx context.Context, repositories []string, last string) (int, error) {
	defer requestOf(ctx).extend()
	return n.Namespace.Repositories(ctx, repositories, last)
}

// Close ends the engine with Distribution's application.
func (n *namespace) Close() error { return n.engine.Close() }

type repository struct {
	namespace *namespace
	name      reference.Named
}

// ownedName is the name of a repository, by which quiet finds it again.
type ownedName struct {
	reference.Named
	owner *repository
}

// Named implements distribution.Repository.
func (r *repository) Named() reference.Named { return ownedName{r.name, r} }

// Manifests implements distribution.Repository.
func (r *repository) Manifests(context.Context, ...distribution.ManifestServiceOption) (distribution.ManifestService, error) {
	return &manifestService{engine: r.namespace.engine, repository: r.name.Name()}, nil
}

// Blobs implements distribution.Repository.
func (r *repository) Blobs(context.Context) distribution.BlobStore {
	return &blobStore{engine: r.namespace.engine, repository: r.name.Name()}
}

// Tags implements distribution.Repository.
func (r *repository) Tags(context.Context) distribution.TagService {
	return &tagService{engine: r.namespace.engine, repository: r.name.Name()}
}

const (
	// maxPages bounds how many pages a list is put together from.
	maxPages = 1000
	// pagesTimeout bounds how long that may take.
	pagesTimeout = 2 * time.Minute
)

// pages visits the pages of one of the upstream's lists, from the one that query asks for. Only a few are visited at a
// time, since a list takes a multiple of its size when it is parsed.
func (e *Engine) pages(ctx context.Context, repository, path string, query url.Values, visit func(remote.Document) error) error {
	ctx, cancel := context.WithTimeout(ctx, pagesTimeout)
	defer cancel()
	for range maxPages {
		page, err := e.upstream.List(ctx, repository, path, query)
		if err != nil {
			return err
		}
		if err := e.inTurn(ctx, func() error { return visit(page) }); err != nil {
			return err
		}
		if page.Next == nil {
			return nil
		}
		query = page.Next
	}
	return e.invalid("its list has too many pages")
}
