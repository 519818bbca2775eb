// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
)

// owns reports whether a repository may serve a blob without asking the upstream.
func (e *Engine) owns(repository string, d digest.Digest) bool {
	if e.store.HasLayer(repository, d) {
		return true
	}
	needed := false
	_ = e.index.Parents(d, func(m digest.Digest) bool {
		needed = e.store.HasManifest(repository, m)
		return !needed
	})
	if needed {
		if _, err := e.store.StatBlob(d); err == nil {
			e.link(repository, d, index.Layer)
		}
	}
	return needed
}

// claim asks the upstream whether a repository has a blob that is here already, or on its way, for another one.
func (e *Engine) claim(ctx context.Context, repository string, d digest.Digest) error {
	if _, err := e.statUpstream(ctx, repository, d); err != nil {
		return err
	}
	e.link(repository, d, index.Layer)
	return nil
}

// link makes an object part of a repository. It is a convenience for later requests, so failing is no error.
func (e *Engine) link(repository string, d digest.Digest, kind index.Kind) {
	link := e.store.LinkLayer
	if kind == index.Manifest {
		link = e.store.LinkManifest
	}
	err := e.index.AddLink(d, index.Link{Kind: kind, Repository: repository})
	if err == nil {
		err = link(repository, d)
	}
	if err != nil && !store.IsFull(err) {
		e.log.WithError(err).WithField("repository", repository).Warn("Could not link an object")
	}
}
