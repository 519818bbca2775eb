// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"io"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// unsupportedBlobs are the ways to write, which a cache does not have.
type unsupportedBlobs struct{}

func (unsupportedBlobs) Open(context.Context, digest.Digest) (io.ReadSeekCloser, error) {
	return nil, distribution.ErrUnsupported
}

func (unsupportedBlobs) Put(context.Context, string, []byte) (v1.Descriptor, error) {
	return v1.Descriptor{}, distribution.ErrUnsupported
}

func (unsupportedBlobs) Create(context.Context, ...distribution.BlobCreateOption) (distribution.BlobWriter, error) {
	return nil, distribution.ErrUnsupported
}

// Resume finds no upload: asking for the state of one is not an internal error.
func (unsupportedBlobs) Resume(context.Context, string) (distribution.BlobWriter, error) {
	return nil, distribution.ErrBlobUploadUnknown
}

func (unsupportedBlobs) Mount(context.Context, reference.Named, digest.Digest) (v1.Descriptor, error) {
	return v1.Descriptor{}, distribution.ErrUnsupported
}

func (unsupportedBlobs) Delete(context.Context, digest.Digest) error {
	return distribution.ErrUnsupported
}
