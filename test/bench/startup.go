// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/upstreamsim"
)

// startup starts servers with a data directory of many cached blobs.
func startup(ctx context.Context, b *bench) error {
	empty := b.table.row("start on an empty cache: first answer after", "%.2f s", limit{})
	err := b.eachStart(ctx, func(c column, server *cacheprocess.Server) error {
		elapsed, err := b.timeStart(ctx, server, "")
		empty.add(c, elapsed.Seconds())
		return err
	})
	if err != nil {
		return err
	}
	if b.cached == "" {
		directory, err := b.fillCache()
		if err != nil {
			return fmt.Errorf("fill cache: %w", err)
		}
		b.cached = directory
	}
	what := fmt.Sprintf("start with %d cached blobs: ", b.blobs)
	full := b.table.row(what+"first blob after", "%.2f s", limit{})
	again := b.table.row(what+"first blob after, restarted", "%.2f s", limit{})
	rss := b.table.row(what+"peak RSS after 5 s", "%.0f MiB", limit{value: maxRSS})
	return b.eachStart(ctx, func(c column, server *cacheprocess.Server) error {
		server.SetDataDirectory(b.cached)
		elapsed, err := b.timeStart(ctx, server, cachedName(0))
		if err != nil {
			return err
		}
		full.add(c, elapsed.Seconds())
		time.Sleep(5 * time.Second)
		if err := addRSS(rss, c, server); err != nil {
			return err
		}
		server.Stop()
		elapsed, err = b.timeStart(ctx, server, cachedName(0))
		again.add(c, elapsed.Seconds())
		return err
	})
}

func (b *bench) eachStart(_ context.Context, measure func(column, *cacheprocess.Server) error) error {
	var failures []error
	for _, implementation := range b.implementations {
		server, err := b.server(implementation, nil)
		if err != nil {
			return err
		}
		if err := measure(column(implementation.Name), server); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w\n%s", implementation.Name, err, server.LogTail()))
		}
		server.Stop()
		failures = append(failures, server.Remove())
	}
	return errors.Join(failures...)
}

// timeStart starts a server and returns the time until its first response, or until it has served a blob of a
// repository if one is named.
func (b *bench) timeStart(ctx context.Context, server *cacheprocess.Server, name string) (time.Duration, error) {
	begin := time.Now()
	if err := server.Start(ctx); err != nil {
		return 0, err
	}
	if name == "" {
		return time.Since(begin), nil
	}
	client := server.Client()
	defer client.Close()
	_, err := client.Blob(ctx, name, cachedImage(0).Layers()[0].Descriptor().Digest)
	return time.Since(begin), err
}

// blobsPerImage is the number of blobs of an image in the filled cache, including its manifest.
const blobsPerImage = 100

func cachedName(n uint64) string { return fmt.Sprintf("cached/image-%d", n) }

func cachedImage(n uint64) upstreamsim.Image {
	return upstreamsim.RandomImage(1000+n, blobsPerImage-2, 64)
}

// fillCache creates a data directory in the form of stock Distribution's.
func (b *bench) fillCache() (string, error) {
	root := filepath.Join(b.dir, "cached")
	type entry struct {
		Key        string
		ExpiryData time.Time
		EntryType  int
	}
	images := uint64(b.blobs / blobsPerImage)
	perImage := make([][]entry, images)
	expiry := time.Now().Add(24 * time.Hour)

	var group errgroup.Group
	group.SetLimit(4)
	for n := range images {
		group.Go(func() error {
			const blobEntry, manifestEntry = 0, 1
			image, name := cachedImage(n), cachedName(n)
			add := func(dgst digest.Digest, kind int) {
				perImage[n] = append(perImage[n], entry{Key: name + "@" + dgst.String(), ExpiryData: expiry, EntryType: kind})
			}
			for _, blob := range image.Blobs {
				dgst := blob.Descriptor().Digest
				add(dgst, blobEntry)
				if err := writeBlob(root, blob.Data, "repositories/"+name+"/_layers/sha256/"+dgst.Encoded()); err != nil {
					return err
				}
			}
			add(image.Digest(), manifestEntry)
			manifests := "repositories/" + name + "/_manifests"
			return writeBlob(root, image.Manifest.Data,
				manifests+"/revisions/sha256/"+image.Digest().Encoded(),
				manifests+"/tags/"+tag+"/current",
				manifests+"/tags/"+tag+"/index/sha256/"+image.Digest().Encoded(),
			)
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	state := map[string]entry{}
	for _, entries := range perImage {
		for _, e := range entries {
			state[e.Key] = e
		}
	}
	data, err := json.Marshal(state)
	if err != nil {
		return "", err
	}
	return root, os.WriteFile(filepath.Join(root, "scheduler-state.json"), data, 0o600)
}

// writeBlob writes a blob and its links in Distribution's layout.
func writeBlob(root string, data []byte, links ...string) error {
	dgst := digest.FromBytes(data)
	hex := dgst.Encoded()
	files := map[string][]byte{"blobs/sha256/" + hex[:2] + "/" + hex + "/data": data}
	for _, link := range links {
		files[link+"/link"] = []byte(dgst)
	}
	for name, content := range files {
		path := filepath.Join(root, "docker/registry/v2", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
