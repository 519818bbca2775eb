// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifest"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
)

// owns reports whether a repository may serve a blob without asking the upstream: because it has been served from
// there, or because an image that the repository has needs it. Registries take an image only when they have what it
// needs. An index proves nothing, since many registries take one whatever it lists, and neither does what is an image to
// some readers only: a registry that took it for something else has not looked for its layers.
func (e *Engine) owns(repository string, d digest.Digest) bool {
	if e.store.HasLayer(repository, d) {
		return true
	}
	for image := range e.imagesThatNeed(repository, d) {
		if !e.index.Manifest(repository, image).Proof {
			continue
		}
		if _, err := e.store.StatBlob(d); err == nil {
			e.link(repository, d)
		}
		return true
	}
	return false
}

// imagesThatNeed visits the images of a repository that need a blob.
func (e *Engine) imagesThatNeed(repository string, d digest.Digest) iter.Seq[digest.Digest] {
	return func(visit func(digest.Digest) bool) {
		var parents []digest.Digest
		_ = e.index.Parents(d, func(parent digest.Digest) bool {
			parents = append(parents, parent)
			return true
		})
		for _, parent := range parents {
			record, known := e.index.Get(parent)
			isImage := known && record.Manifest && !manifest.IsIndex(record.MediaType)
			if isImage && e.store.HasManifest(repository, parent) && !visit(parent) {
				return
			}
		}
	}
}

// claim asks the upstream whether a repository has a blob that is here already, or on its way, for another one.
func (e *Engine) claim(ctx context.Context, repository string, d digest.Digest) error {
	if _, err := e.statUpstream(ctx, repository, d); err != nil {
		return err
	}
	e.link(repository, d)
	return nil
}

// link makes a blob part of a repository. It is a convenience for later requests, so failing is no error.
func (e *Engine) link(repository string, d digest.Digest) {
	err := e.index.AddLink(d, index.Link{Kind: index.Layer, Repository: repository})
	if err == nil {
		err = e.store.LinkLayer(repository, d)
	}
	if err != nil && !store.IsFull(err) {
		e.log.WithError(err).WithField("repository", repository).Warn("Could not link a blob")
	}
}
