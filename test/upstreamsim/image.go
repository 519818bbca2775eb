// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim

import (
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Content is a manifest or a blob with its media type.
type Content struct {
	MediaType string
	Data      []byte
}

// Descriptor returns the descriptor of the content.
func (c Content) Descriptor() imagev1.Descriptor {
	return imagev1.Descriptor{MediaType: c.MediaType, Digest: digest.FromBytes(c.Data), Size: int64(len(c.Data))}
}

// Image is a manifest with its blobs.
type Image struct {
	Manifest Content
	Blobs    []Content
}

// Digest returns the digest of the manifest.
func (i Image) Digest() digest.Digest { return digest.FromBytes(i.Manifest.Data) }

// Layers returns the blobs without the configuration.
func (i Image) Layers() []Content { return i.Blobs[1:] }

// Size returns the number of bytes of a complete pull.
func (i Image) Size() int64 {
	size := int64(len(i.Manifest.Data))
	for _, blob := range i.Blobs {
		size += int64(len(blob.Data))
	}
	return size
}

// Objects returns the number of objects of a complete pull.
func (i Image) Objects() int { return 1 + len(i.Blobs) }

// NewImage creates an image of the given layers.
func NewImage(layers ...Content) Image {
	config := imagev1.Image{Platform: imagev1.Platform{Architecture: "amd64", OS: "linux"}, RootFS: imagev1.RootFS{Type: "layers"}}
	for _, layer := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(layer.Data))
	}
	blobs := append([]Content{{MediaType: imagev1.MediaTypeImageConfig, Data: mustMarshal(config)}}, layers...)

	manifest := imagev1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: imagev1.MediaTypeImageManifest,
		Config:    blobs[0].Descriptor(),
		Layers:    []imagev1.Descriptor{},
	}
	for _, layer := range layers {
		manifest.Layers = append(manifest.Layers, layer.Descriptor())
	}
	return Image{
		Manifest: Content{MediaType: imagev1.MediaTypeImageManifest, Data: mustMarshal(manifest)},
		Blobs:    blobs,
	}
}

// NewIndex creates an index of the given images.
func NewIndex(images ...Image) Content {
	index := imagev1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: imagev1.MediaTypeImageIndex,
		Manifests: []imagev1.Descriptor{},
	}
	for _, image := range images {
		index.Manifests = append(index.Manifests, image.Manifest.Descriptor())
	}
	return Content{MediaType: imagev1.MediaTypeImageIndex, Data: mustMarshal(index)}
}

// NewArtifact creates an artifact of the given type that refers to a subject.
func NewArtifact(artifactType string, subject imagev1.Descriptor) Image {
	empty := Content{MediaType: imagev1.MediaTypeEmptyJSON, Data: []byte("{}")}
	manifest := imagev1.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    imagev1.MediaTypeImageManifest,
		ArtifactType: artifactType,
		Config:       empty.Descriptor(),
		Layers:       []imagev1.Descriptor{empty.Descriptor()},
		Subject:      &subject,
		Annotations:  map[string]string{"org.example.kind": artifactType},
	}
	return Image{
		Manifest: Content{MediaType: imagev1.MediaTypeImageManifest, Data: mustMarshal(manifest)},
		Blobs:    []Content{empty},
	}
}

// NewLayer creates a layer of random bytes that depend only on the seed.
func NewLayer(seed uint64, size int) Content {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	data := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(data) // never fails
	return Content{MediaType: imagev1.MediaTypeImageLayerGzip, Data: data}
}

// RandomImage creates an image of layers of random bytes. Images with different seeds have no layer in common.
func RandomImage(seed uint64, layers, layerSize int) Image {
	contents := make([]Content, layers)
	for i := range contents {
		contents[i] = NewLayer(seed<<16+uint64(i), layerSize)
	}
	return NewImage(contents...)
}

func mustMarshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // impossible for the types of this package
	}
	return data
}
