// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"regexp"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/route"
)

// object is what a request is for, and how a client proves that it may read that.
type object struct {
	kind, repository, reference string
	// path below the repository is what the upstream is asked for: a manifest, a blob or the list of tags. For
	// referrers, it is their subject.
	path string
	// digest is that of a manifest or blob that is requested by its digest. Such content is part of a repository only
	// if the upstream has it there.
	digest digest.Digest
}

// objectOf returns the object of a request. It returns false for a request that is not for content.
func objectOf(to route.Route) (object, bool) {
	o := object{kind: to.Kind, repository: to.Repository, reference: to.Reference}
	switch to.Kind {
	case route.Manifest:
		o.path = "manifests/" + to.Reference
		if d, err := digest.Parse(to.Reference); err == nil {
			o.digest = d
		}
	case route.Referrers:
		o.path = "manifests/" + to.Reference
	case route.Blob:
		o.path = "blobs/" + to.Reference
		o.digest = digest.Digest(to.Reference)
	case route.Tags:
		o.path = "tags/list"
	default:
		return object{}, false
	}
	return o, true
}

// isManifest reports whether the upstream is asked for a manifest, and so for the permission to read the repository.
func (o object) isManifest() bool { return o.kind == route.Manifest || o.kind == route.Referrers }

// holder is a client in the repository.
func (o object) holder(c client) holder { return holder{client: c.id, repository: o.repository} }

// whole is the key of the repository.
func (o object) whole(c client) key { return key{holder: o.holder(c)} }

// single is the key of the object.
func (o object) single(c client) key { return key{holder: o.holder(c), path: o.path} }

// proof is the key of what the upstream proves by serving the object.
func (o object) proof(c client) key {
	if o.isManifest() && o.digest == "" {
		return o.whole(c)
	}
	return o.single(c)
}

var tags = regexp.MustCompile(`^` + reference.TagRegexp.String() + `$`)

// isValid reports whether the names are those of an object, so that the upstream can be asked for it.
func (o object) isValid() bool {
	if len(o.repository) > event.MaxRepository {
		return false
	}
	if named, err := reference.WithName(o.repository); err != nil || named.Name() != o.repository {
		return false
	}
	switch {
	case o.kind == route.Tags:
		return true
	case o.kind == route.Manifest && o.digest == "":
		return tags.MatchString(o.reference)
	}
	_, err := digest.Parse(o.reference)
	return err == nil
}

// unknown is the error for an object that does not exist.
func (o object) unknown() errcode.Error {
	switch o.kind {
	case route.Blob:
		return errcode.ErrorCodeBlobUnknown.WithDetail(o.digest)
	case route.Tags:
		return errcode.ErrorCodeNameUnknown.WithDetail(map[string]string{"name": o.repository})
	}
	return errcode.ErrorCodeManifestUnknown.WithMessage("manifest unknown to the upstream registry")
}
