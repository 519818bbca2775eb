// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package manifest extracts what a cache has to know of a manifest: its media type and the objects that it needs.
//
// Manifests are untrusted, and a cache serves their bytes unchanged, whatever their type. So parsing ignores what it
// does not know, but accepts only valid digests in a document of limited size, depth and number of values. A parser
// needs many times the memory of small values, so they are counted before the document is parsed.
package manifest

import (
	"bytes"
	encodingjson "encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"sigs.k8s.io/json"
)

const (
	// MaxBytes limits the size of a manifest, as in Distribution.
	MaxBytes = 4 << 20
	// maxDepth limits the nesting of a manifest. Real ones need about 6 levels.
	maxDepth = 64
	// maxChildren limits the number of objects that a manifest needs.
	maxChildren = 10_000
	// maxValues limits the number of values of a document. It is more than maxChildren descriptors have in all their
	// fields, and about as many as real descriptors in MaxBytes have.
	maxValues = 100_000
)

// Media types of manifests.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	OCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	OCIIndex       = "application/vnd.oci.image.index.v1+json"
	// ociArtifact is from a draft of the specification that was in use.
	ociArtifact = "application/vnd.oci.artifact.manifest.v1+json"
	// dockerSchema1 is the prefix of the types from the time before digests. Such manifests have no canonical bytes.
	dockerSchema1 = "application/vnd.docker.distribution.manifest.v1+"

	dockerForeignLayer = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	ociForeignLayer    = "application/vnd.oci.image.layer.nondistributable.v1.tar" // Also the prefix of its compressed variants.
)

// IsIndex reports whether manifests of a type refer to other manifests.
func IsIndex(mediaType string) bool { return mediaType == OCIIndex || mediaType == DockerList }

// Info describes a manifest.
type Info struct {
	MediaType string
	// Explicit means that the document names its type, and that all parsers find the same in it.
	Explicit bool
	// Children are the manifests, configuration and layers that the manifest needs, without duplicates. They do not
	// include its subject, layers that other servers provide, or fields that its type does not define: registries check
	// only the fields of the type.
	Children []Child
}

// Digests are those of the children.
func (i Info) Digests() []digest.Digest {
	digests := make([]digest.Digest, 0, len(i.Children))
	for _, child := range i.Children {
		digests = append(digests, child.Digest)
	}
	return digests
}

// Child is an object that a manifest needs.
type Child struct {
	Digest    digest.Digest
	Size      int64
	MediaType string
}

var (
	errDeep  = errors.New("manifest is nested too deeply")
	errLarge = errors.New("manifest needs too many objects")
	errMany  = errors.New("manifest has too many values")
	errJSON  = errors.New("manifest is not valid JSON of its type")
	// ErrSchema1 means that a manifest has a format that current clients refuse.
	ErrSchema1 = errors.New("manifest has Docker's schema 1, which is not served; push the image again with a current client")
)

type descriptor struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
	URLs      []string      `json:"urls"`
}

// fields has the fields of all types of manifests. The type determines which of them are parsed.
type fields struct {
	SchemaVersion encodingjson.RawMessage `json:"schemaVersion"`
	MediaType     string                  `json:"mediaType"`
	Config        encodingjson.RawMessage `json:"config"`
	Layers        encodingjson.RawMessage `json:"layers"`
	Blobs         encodingjson.RawMessage `json:"blobs"`
	Manifests     encodingjson.RawMessage `json:"manifests"`
}

// elsewhere reports whether other servers provide a layer, so that registries accept a manifest without it.
func (d descriptor) elsewhere() bool {
	return len(d.URLs) > 0 || d.MediaType == dockerForeignLayer || strings.HasPrefix(d.MediaType, ociForeignLayer)
}

// Parse parses a manifest. Its media type is the one in the document, or else the one that it was sent with, or else a
// guess. Names are case-sensitive, unlike in encoding/json. A manifest of an unknown type is opaque, so the limits of
// values and depth do not apply to it.
func Parse(content []byte, sentAs string) (Info, error) {
	if err := CheckBounds(content); err != nil {
		if isOpaque(sentAs) {
			return Info{MediaType: sentAs}, nil
		}
		return Info{}, err
	}
	var document fields
	ambiguous, err := decode(content, &document)
	if err != nil {
		mediaType, err := unknownType(content, sentAs)
		return Info{MediaType: mediaType}, err
	}
	info := Info{MediaType: document.MediaType}
	if info.MediaType == "" {
		if info.MediaType = guess(sentAs, document); info.MediaType == "" {
			return Info{}, errJSON
		}
	}
	if isSchema1(info.MediaType) {
		return Info{}, ErrSchema1
	}
	needed, ambiguousNeeds, err := document.needs(info.MediaType)
	if err != nil {
		return Info{}, err
	}
	// Registries written in Go, such as Distribution, do not distinguish layers and LAYERS.
	info.Explicit = document.MediaType != "" && !ambiguous && !ambiguousNeeds && !hasVariants(content)
	if info.Children, err = children(needed); err != nil {
		return Info{}, err
	}
	return info, nil
}

// decode decodes JSON, and reports whether it has duplicate names.
func decode(content []byte, into any) (ambiguous bool, err error) {
	ambiguities, err := json.UnmarshalStrict(content, into, json.DisallowDuplicateFields)
	if err != nil {
		return false, errJSON
	}
	return len(ambiguities) > 0, nil
}

// needs returns the descriptors of the objects that a manifest of a type needs.
func (f fields) needs(mediaType string) (needed []descriptor, ambiguous bool, err error) {
	read := func(field encodingjson.RawMessage, into any) {
		if len(field) == 0 || err != nil {
			return
		}
		var twice bool
		twice, err = decode(field, into)
		ambiguous = ambiguous || twice
	}
	switch {
	case IsIndex(mediaType):
		read(f.Manifests, &needed)
	case mediaType == OCIManifest || mediaType == DockerManifest:
		read(f.Layers, &needed)
		var config *descriptor
		if read(f.Config, &config); config != nil {
			needed = append(needed, *config)
		}
	case mediaType == ociArtifact:
		read(f.Blobs, &needed)
	}
	return needed, ambiguous, err
}

// children returns the objects of descriptors, without duplicates and without those that other servers provide.
func children(needed []descriptor) ([]Child, error) {
	var children []Child
	seen := map[digest.Digest]bool{}
	for _, d := range needed {
		if d.Digest.Validate() != nil || d.elsewhere() || seen[d.Digest] {
			continue
		}
		if len(seen) == maxChildren {
			return nil, errLarge
		}
		seen[d.Digest] = true
		children = append(children, Child{Digest: d.Digest, Size: d.Size, MediaType: d.MediaType})
	}
	return children, nil
}

// unknownType returns the type of a document that cannot be decoded as a manifest, or an error if its type is known.
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
	case !isOpaque(mediaType):
		return "", errJSON
	}
	return mediaType, nil
}

// isOpaque reports whether a cache does not parse manifests of a type, because it does not know the type.
func isOpaque(mediaType string) bool {
	switch mediaType {
	case OCIManifest, OCIIndex, DockerManifest, DockerList, ociArtifact:
		return false
	}
	return !isGeneric(mediaType) && !strings.HasPrefix(mediaType, "text/") && !isSchema1(mediaType)
}

func isSchema1(mediaType string) bool { return strings.HasPrefix(mediaType, dockerSchema1) }

// isGeneric reports whether a media type does not identify a manifest.
func isGeneric(mediaType string) bool {
	return mediaType == "" || mediaType == "application/json" || mediaType == "application/octet-stream" || mediaType == "text/plain"
}

var (
	documentNames   = []string{"schemaVersion", "mediaType", "config", "layers", "blobs", "manifests"}
	descriptorNames = []string{"mediaType", "digest", "size", "urls"}
)

// hasVariants reports whether a valid document has a name that differs only in case from one that we decode, so that
// case-insensitive parsers confuse them.
func hasVariants(content []byte) bool {
	decoder := encodingjson.NewDecoder(bytes.NewReader(content))
	var open []bool // For each enclosing value, whether it is an object.
	isName := false
	for {
		token, err := decoder.Token()
		if err != nil {
			return false
		}
		switch token := token.(type) {
		case encodingjson.Delim:
			if token == '{' || token == '[' {
				open = append(open, token == '{')
			} else {
				open = open[:len(open)-1]
			}
			isName = len(open) > 0 && open[len(open)-1]
			continue
		case string:
			if isName && isVariant(token, len(open)) {
				return true
			}
		}
		isName = len(open) > 0 && open[len(open)-1] && !isName
	}
}

// isVariant reports whether a name at a depth differs only in case from one that we decode. The configuration's
// descriptor is at depth 2, those in lists are at depth 3.
func isVariant(name string, depth int) bool {
	names := documentNames
	switch {
	case depth > 3:
		return false
	case depth > 1:
		names = descriptorNames
	}
	return slices.ContainsFunc(names, func(ours string) bool { return name != ours && strings.EqualFold(name, ours) })
}

// guess returns the type of a document that does not name it, or an empty string, for example for an error in JSON.
func guess(sentAs string, document fields) string {
	switch {
	case string(document.SchemaVersion) == "1":
		return dockerSchema1 + "prettyjws"
	case !isGeneric(sentAs):
		return sentAs
	case len(document.Manifests) > 0 && string(document.Manifests) != "null":
		return OCIIndex
	case len(document.Config)+len(document.Layers)+len(document.Manifests) == 0:
		return ""
	}
	return OCIManifest
}

// CheckBounds limits the depth and the number of values of a document before it is parsed.
func CheckBounds(content []byte) error {
	depth, values, inString, escaped := 0, 0, false, false
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
			values++
			if depth++; depth > maxDepth {
				return errDeep
			}
		case c == ',':
			values++
		case c == '}' || c == ']':
			depth--
		}
		if values > maxValues {
			return errMany
		}
	}
	return nil
}
