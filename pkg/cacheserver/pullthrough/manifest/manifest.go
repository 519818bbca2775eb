// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package manifest reads from a manifest what a cache has to know: its media type and what it needs.
//
// A manifest is data from a stranger, and it is served as the bytes that it is, whatever its type. So reading is
// tolerant of what it does not know, and strict in what it takes: digests that are valid, in a document of bounded
// size, depth and number of values. A parser takes many times the bytes of small values, so their number is counted before
// it sees them.
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
	// MaxBytes is the size of the largest manifest, as for Distribution.
	MaxBytes = 4 << 20
	// maxDepth is how deep a manifest may nest. Real ones need about 6.
	maxDepth = 64
	// maxChildren bounds what one manifest may need.
	maxChildren = 10_000
	// maxValues bounds how many values a document has: more than maxChildren descriptors have with all their fields, and
	// about what MaxBytes hold of descriptors such as real ones.
	maxValues = 100_000
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

// Digests are those of the children.
func (i Info) Digests() []digest.Digest {
	digests := make([]digest.Digest, 0, len(i.Children))
	for _, child := range i.Children {
		digests = append(digests, child.Digest)
	}
	return digests
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
	errMany  = errors.New("manifest has too many values")
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

// fields are those of all types of manifests. Which of them are looked into depends on the type.
type fields struct {
	SchemaVersion encodingjson.RawMessage `json:"schemaVersion"`
	MediaType     string                  `json:"mediaType"`
	Config        encodingjson.RawMessage `json:"config"`
	Layers        encodingjson.RawMessage `json:"layers"`
	Blobs         encodingjson.RawMessage `json:"blobs"`
	Manifests     encodingjson.RawMessage `json:"manifests"`
}

// elsewhere says that a layer is to be had elsewhere, so that registries do not ask for it when they take its manifest.
func (d descriptor) elsewhere() bool {
	return len(d.URLs) > 0 || d.MediaType == dockerForeignLayer || strings.HasPrefix(d.MediaType, ociForeignLayer)
}

// Parse reads a manifest. The media type is the one in the document, else the one that it was sent with, else a guess.
// Names are what they are to the letter, which encoding/json would not insist on. A manifest of an unknown type is bytes,
// however many of them look like values.
func Parse(content []byte, sentAs string) (Info, error) {
	if err := CheckBounds(content); err != nil {
		if isBytes(sentAs) {
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
	// Registries in Go, Distribution among them, take layers and LAYERS for the same.
	info.Explicit = document.MediaType != "" && !ambiguous && !ambiguousNeeds && !hasVariants(content)
	if info.Children, err = children(needed); err != nil {
		return Info{}, err
	}
	return info, nil
}

// decode decodes JSON, and reports whether it names something twice.
func decode(content []byte, into any) (ambiguous bool, err error) {
	ambiguities, err := json.UnmarshalStrict(content, into, json.DisallowDuplicateFields)
	if err != nil {
		return false, errJSON
	}
	return len(ambiguities) > 0, nil
}

// needs returns the descriptors of what a manifest of a type needs.
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

// children returns what descriptors lead to, without duplicates, and without what is to be had elsewhere.
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
	case !isBytes(mediaType):
		return "", errJSON
	}
	return mediaType, nil
}

// isBytes reports whether manifests of a type are only bytes to a cache, as those of types that it does not know.
func isBytes(mediaType string) bool {
	switch mediaType {
	case OCIManifest, OCIIndex, DockerManifest, DockerList, ociArtifact:
		return false
	}
	return !isGeneric(mediaType) && !strings.HasPrefix(mediaType, "text/") && !isSchema1(mediaType)
}

func isSchema1(mediaType string) bool { return strings.HasPrefix(mediaType, dockerSchema1) }

// isGeneric reports whether a media type tells nothing.
func isGeneric(mediaType string) bool {
	return mediaType == "" || mediaType == "application/json" || mediaType == "application/octet-stream" || mediaType == "text/plain"
}

var (
	documentNames   = []string{"schemaVersion", "mediaType", "config", "layers", "blobs", "manifests"}
	descriptorNames = []string{"mediaType", "digest", "size", "urls"}
)

// hasVariants reports whether a document has a name that some readers take for one of ours, though it is not that to the
// letter. The document is valid.
func hasVariants(content []byte) bool {
	decoder := encodingjson.NewDecoder(bytes.NewReader(content))
	var open []bool // for each value that is open, whether it is an object
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

// isVariant reports whether a name at a depth is one of ours, but for the case of its letters. The configuration's
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

// guess returns the type of a document that does not name it, or none: an error that was sent as JSON is no manifest.
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

// CheckBounds counts the values and the depth of a document before it is parsed.
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
