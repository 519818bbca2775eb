// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

const (
	// concurrentDownloads is the default of containerd's CRI plugin, max_concurrent_downloads.
	concurrentDownloads = 3
	// maxManifestSize bounds the manifests that are read.
	maxManifestSize = 4 << 20
)

// resolver is the part of a containerd version's resolver that a pull needs. The fetchers have a type of their version.
type resolver[F fetcher] interface {
	Resolve(ctx context.Context, image string) (string, imagev1.Descriptor, error)
	Fetcher(ctx context.Context, image string) (F, error)
}

type fetcher interface {
	Fetch(ctx context.Context, descriptor imagev1.Descriptor) (io.ReadCloser, error)
}

// pull makes the requests of a pull in the order of containerd: it resolves the tag, fetches the index, the manifest,
// and finally the configuration and the layers, three at a time.
func pull[F fetcher](ctx context.Context, from resolver[F], image string) error {
	name, root, err := from.Resolve(ctx, image)
	if err != nil {
		return fmt.Errorf("resolve %s: %w", image, err)
	}
	fetcher, err := from.Fetcher(ctx, name)
	if err != nil {
		return fmt.Errorf("create fetcher: %w", err)
	}
	var index imagev1.Index
	if err := fetchManifest(ctx, fetcher, root, &index); err != nil {
		return fmt.Errorf("fetch index: %w", err)
	}
	if len(index.Manifests) == 0 {
		return fmt.Errorf("%s is not an index with an image", image)
	}
	var manifest imagev1.Manifest
	if err := fetchManifest(ctx, fetcher, index.Manifests[0], &manifest); err != nil {
		return fmt.Errorf("fetch manifest: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrentDownloads)
	for _, blob := range append([]imagev1.Descriptor{manifest.Config}, manifest.Layers...) {
		group.Go(func() error {
			if err := fetch(ctx, fetcher, blob, io.Discard); err != nil {
				return fmt.Errorf("fetch blob %s: %w", blob.Digest, err)
			}
			return nil
		})
	}
	return group.Wait()
}

func fetchManifest(ctx context.Context, from fetcher, descriptor imagev1.Descriptor, into any) error {
	if descriptor.Size > maxManifestSize {
		return fmt.Errorf("size %d is more than %d", descriptor.Size, maxManifestSize)
	}
	var data bytes.Buffer
	if err := fetch(ctx, from, descriptor, &data); err != nil {
		return err
	}
	return json.Unmarshal(data.Bytes(), into)
}

// fetch fetches and verifies an object.
func fetch(ctx context.Context, from fetcher, descriptor imagev1.Descriptor, to io.Writer) error {
	body, err := from.Fetch(ctx, descriptor)
	if err != nil {
		return err
	}
	defer body.Close()
	verifier := descriptor.Digest.Verifier()
	if _, err := io.Copy(io.MultiWriter(verifier, to), io.LimitReader(body, descriptor.Size)); err != nil {
		return err
	}
	if !verifier.Verified() {
		return fmt.Errorf("content does not match %s", descriptor.Digest)
	}
	return nil
}
