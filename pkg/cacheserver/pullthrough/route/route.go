// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package route parses the paths of the distribution API.
package route

import (
	"strings"

	v2 "github.com/distribution/distribution/v3/registry/api/v2"
)

// The kinds of routes. All but Referrers have the names that Distribution gives them in its metrics.
const (
	Base            = v2.RouteNameBase
	Catalog         = v2.RouteNameCatalog
	Tags            = v2.RouteNameTags
	Manifest        = v2.RouteNameManifest
	Blob            = v2.RouteNameBlob
	BlobUpload      = v2.RouteNameBlobUpload
	BlobUploadChunk = v2.RouteNameBlobUploadChunk
	// Referrers is the one route that Distribution lacks.
	Referrers = "referrers"
)

// Kinds are all kinds of routes.
var Kinds = []string{Base, Catalog, Tags, Manifest, Blob, BlobUpload, BlobUploadChunk, Referrers}

// Route is a path of the distribution API.
type Route struct {
	// Kind is one of Kinds, or empty if the path is none of the API.
	Kind string
	// Repository and Reference are as they are in the path, unchecked. Reference is the tag, digest or upload.
	Repository, Reference string
}

// Parse returns the route of a URL path below a prefix. Matching Distribution's regular expressions once more would add a
// tenth to the cost of a HEAD.
func Parse(prefix, path string) Route {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(prefix, "/")+"/v2/")
	if !ok {
		return Route{}
	}
	switch rest {
	case "":
		return Route{Kind: Base}
	case "_catalog":
		return Route{Kind: Catalog}
	}
	parent, reference := cutLast(rest)
	repository, kind := cutLast(parent)
	if repository == "" {
		return Route{}
	}
	if kind == "uploads" {
		if repository, ok := strings.CutSuffix(repository, "/blobs"); ok && reference == "" {
			return Route{Kind: BlobUpload, Repository: repository}
		} else if ok {
			return Route{Kind: BlobUploadChunk, Repository: repository, Reference: reference}
		}
	}
	r := Route{Repository: repository, Reference: reference}
	switch {
	case reference == "":
		return Route{}
	case kind == "tags" && reference == "list":
		return Route{Kind: Tags, Repository: repository}
	case kind == "manifests":
		r.Kind = Manifest
	case kind == "blobs" && reference != "uploads":
		r.Kind = Blob
	case kind == "referrers":
		r.Kind = Referrers
	default:
		return Route{}
	}
	return r
}

// cutLast splits a path before its last element.
func cutLast(path string) (parent, last string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}
