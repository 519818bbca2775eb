// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package manifest reads from a manifest what a cache has to know: its media type and what it needs.
//
// A manifest is data from a stranger, and it is served as the bytes that it is, whatever its type. So reading is
// tolerant of what it does not know, and strict in what it takes: digests that are valid, in a document of bounded
// size and depth.
package manifest

import (
	encodingjson "encoding/json"
	"errors"
	"reflect"
	"strings"

	"github.com/opencontainers/go-digest"
	"sigs.k8s.io/json"
)

const (
	// MaxBytes is the size of the largest manifest, as for Distribution.
	MaxBytes = 4 << 20
	// maxDepth is how deep a manifest may nest. Real ones need about 6.
	maxDepth = 64
	// maxChildren bounds what one manifest may need.
	maxChildren = 10_000
)

// Media types that manifests are told apart by.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	OCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	OCIIndex       = "application/vnd.oci.image.index.v1+json"
	// ociArtifact is of a draft of the specification, and was used.
	ociArtifact = "application/vnd.oci.artifact.manifest.v1+json"
	// dockerSchema1 is what registries served before there were digests. It has no canonical bytes.
	dockerSchema1 = "application/vnd.docker.distribution.manifest.v1+"

	dockerForeignLayer = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	ociForeignLayer    = "application/vnd.oci.image.layer.nondistributable.v1.tar" // and its compressed kinds
)

// IsIndex says whether what a manifest of this type needs are manifests.
func IsIndex(mediaType string) bool { return mediaType == OCIIndex || mediaType == DockerList }

// Info is what a manifest tells.
type Info struct {
	MediaType string
	// Explicit says that the document names its type, and that all who read it find the same in it.
	Explicit bool
	// Children are the manifests, configuration and layers that it needs, without duplicates. What it only refers to
	// (its subject, or layers that are to be had elsewhere) is not among them, and neither is what its type has no place
	// for: registries check what a manifest needs, but of its type only.
	Children []Child
}

// Child is something that a manifest needs.
type Child struct {
	Digest    digest.Digest
	Size      int64
	MediaType string
}

var (
	errDeep  = errors.New("manifest nests too deeply")
	errLarge = errors.New("manifest needs too many objects")
	errJSON  = errors.New("manifest is not the JSON of one")
	// ErrSchema1 says that a manifest has a form that clients of today refuse.
	ErrSchema1 = errors.New("manifest is of Docker's schema 1, which is not served; push the image again with a current client")
)

type descriptor struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
	URLs      []string      `json:"urls"`
}

// fields are those of all types of manifests.
type fields struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        *descriptor  `json:"config"`
	Layers        []descriptor `json:"layers"`
	Blobs         []descriptor `json:"blobs"`
	Manifests     []descriptor `json:"manifests"`
}

// elsewhere says that a layer is to be had elsewhere, so that registries do not ask for it when they take its manifest.
func (d descriptor) elsewhere() bool {
	return len(d.URLs) > 0 || d.MediaType == dockerForeignLayer || strings.HasPrefix(d.MediaType, ociForeignLayer)
}

// Parse reads a manifest. The media type is the one in the document, else the one that it was sent with, else a guess.
// Names are what they are to the letter, which encoding/json would not insist on. A manifest of an unknown type is bytes.
func Parse(content []byte, sentAs string) (Info, error) {
	if err := checkDepth(content); err != nil {
		return Info{}, err
	}
	var document fields
	ambiguities, err := json.UnmarshalStrict(content, &document, json.DisallowDuplicateFields)
	if err != nil {
		mediaType, err := unknownType(content, sentAs)
		return Info{MediaType: mediaType}, err
	}
	info := Info{MediaType: document.MediaType}
	if document.MediaType != "" && len(ambiguities) == 0 {
		// Registries in Go, Distribution among them, take layers and LAYERS for the same.
		var folded fields
		info.Explicit = encodingjson.Unmarshal(content, &folded) == nil && reflect.DeepEqual(document, folded)
	}
	if info.MediaType == "" {
		info.MediaType = guess(sentAs, document.SchemaVersion, document.Manifests != nil)
	}
	if isSchema1(info.MediaType) {
		return Info{}, ErrSchema1
	}
	var needed []descriptor
	switch {
	case IsIndex(info.MediaType):
		needed = document.Manifests
	case info.MediaType == OCIManifest || info.MediaType == DockerManifest:
		needed = document.Layers
		if document.Config != nil {
			needed = append(needed, *document.Config)
		}
	case info.MediaType == ociArtifact:
		needed = document.Blobs
	}
	seen := map[digest.Digest]bool{}
	for _, d := range needed {
		if d.Digest.Validate() != nil || d.elsewhere() || seen[d.Digest] {
			continue
		}
		if len(seen) == maxChildren {
			return Info{}, errLarge
		}
		seen[d.Digest] = true
		info.Children = append(info.Children, Child{Digest: d.Digest, Size: d.Size, MediaType: d.MediaType})
	}
	return info, nil
}

// unknownType returns the type of what has not the fields of a manifest. It is an error if it should have them.
func unknownType(content []byte, sentAs string) (string, error) {
	var document struct {
		MediaType any `json:"mediaType"`
	}
	_, err := json.UnmarshalStrict(content, &document)
	mediaType, _ := document.MediaType.(string)
	if err != nil || mediaType == "" {
		mediaType = sentAs
	}
	switch {
	case isSchema1(mediaType):
		return "", ErrSchema1
	case isGeneric(mediaType), strings.HasPrefix(mediaType, "text/"), IsIndex(mediaType),
		mediaType == OCIManifest, mediaType == DockerManifest, mediaType == ociArtifact:
		return "", errJSON
	}
	return mediaType, nil
}

func isSchema1(mediaType string) bool { return strings.HasPrefix(mediaType, dockerSchema1) }

// isGeneric reports whether a media type tells nothing.
func isGeneric(mediaType string) bool {
	return mediaType == "" || mediaType == "application/json" || mediaType == "application/octet-stream" || mediaType == "text/plain"
}

func guess(sentAs string, schemaVersion int, isIndex bool) string {
	switch {
	case schemaVersion == 1:
		return dockerSchema1 + "prettyjws"
	case !isGeneric(sentAs):
		return sentAs
	case isIndex:
		return OCIIndex
	}
	return OCIManifest
}

// checkDepth counts brackets, without those in strings.
func checkDepth(content []byte) error {
	depth, inString, escaped := 0, false, false
	for _, c := range content {
		switch {
		case escaped:
			escaped = false
		case inString:
			escaped = c == '\\'
			inString = c != '"'
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return errDeep
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}
