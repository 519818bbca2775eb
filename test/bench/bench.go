// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

// The images of the upstream.
const (
	imageName  = "library/herd"
	smallName  = "library/small"
	manyName   = "library/many"
	tag        = "v1"
	username   = "bench"
	password   = "bench-password"
	smallBlobs = 16
)

// bench is the state that all scenarios share.
type bench struct {
	settings
	table           table
	dir             string
	identity        *cacheprocess.Identity
	implementations []cacheprocess.Implementation
	image, small    upstreamsim.Image
	upstream        *roleProcess
	files           *roleProcess // the file server, plain
	secureFiles     *roleProcess // the file server, TLS
	servers         int
	authorization   string // of clients, if they have any
	cached          string // directory with many cached blobs, once created
}

func newBench(ctx context.Context, s settings) (_ *bench, err error) {
	b := &bench{settings: s}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.dir, err = os.MkdirTemp("", "larder-bench-"); err != nil {
		return nil, err
	}
	if b.identity, err = cacheprocess.NewIdentity(b.dir); err != nil {
		return nil, err
	}
	for _, name := range strings.Split(s.implementations, ",") {
		implementation, err := cacheprocess.Build(ctx, name)
		if err != nil {
			return nil, err
		}
		b.implementations = append(b.implementations, implementation)
	}
	images := []imageOptions{
		{Name: imageName, Tag: tag, Seed: 1, Layers: s.layers, LayerLen: s.layerMiB << 20},
		{Name: smallName, Tag: tag, Seed: 2, Layers: smallBlobs, LayerLen: 1 << 20},
	}
	b.image, b.small = images[0].make(), images[1].make()
	for i := range manyImages {
		images = append(images, imageOptions{Name: manyName, Tag: manyTag(i), Seed: 1000 + uint64(i), Layers: 1, LayerLen: 1 << 20})
	}

	options := upstreamOptions{Options: upstreamsim.Options{
		Authentication: upstreamsim.Bearer,
		Username:       username,
		Password:       password,
		BytesPerSecond: s.bandwidth * 1e6,
		Latency:        s.latency,
	}, Images: images}
	if s.tls {
		options.CertificateFile, options.KeyFile = b.identity.CertificateFile, b.identity.KeyFile
	}
	if b.upstream, err = startRole("upstream", options); err != nil {
		return nil, err
	}
	return b, b.startFileServers()
}

// startFileServers writes the image as files, so that file servers respond like a registry.
func (b *bench) startFileServers() (err error) {
	root := filepath.Join(b.dir, "files")
	repository := filepath.Join(root, "v2", imageName)
	files := map[string][]byte{
		"manifests/" + tag:                       b.image.Manifest.Data,
		"manifests/" + b.image.Digest().String(): b.image.Manifest.Data,
	}
	for _, blob := range b.image.Blobs {
		files["blobs/"+blob.Descriptor().Digest.String()] = blob.Data
	}
	for name, data := range files {
		path := filepath.Join(repository, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}
	if b.files, err = startRole("fileserver", fileServerOptions{Directory: root}); err != nil {
		return err
	}
	b.secureFiles, err = startRole("fileserver", fileServerOptions{
		Directory: root, CertificateFile: b.identity.CertificateFile, KeyFile: b.identity.KeyFile,
	})
	return err
}

func (b *bench) close() {
	for _, p := range []*roleProcess{b.upstream, b.files, b.secureFiles} {
		if p != nil {
			p.stop()
		}
	}
	if b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
}

// each runs a measurement for each implementation, with a server with an empty cache.
func (b *bench) each(ctx context.Context, change func(*cacheprocess.Config), measure func(column, *cacheprocess.Server) error) error {
	var failures []error
	for _, implementation := range b.implementations {
		err := b.with(ctx, implementation, change, func(server *cacheprocess.Server) error {
			return measure(column(implementation.Name), server)
		})
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", implementation.Name, err))
		}
	}
	return errors.Join(failures...)
}

func (b *bench) with(ctx context.Context, implementation cacheprocess.Implementation, change func(*cacheprocess.Config), use func(*cacheprocess.Server) error) error {
	server, err := b.server(implementation, change)
	if err != nil {
		return err
	}
	if err := server.Start(ctx); err != nil {
		return err
	}
	if err := b.upstream.resetCounters(ctx); err != nil {
		return err
	}
	err = use(server)
	if err != nil {
		err = fmt.Errorf("%w\nend of its log:\n%s", err, server.LogTail())
	}
	server.Stop()
	return errors.Join(err, server.Remove())
}

// server prepares a server without starting it.
func (b *bench) server(implementation cacheprocess.Implementation, change func(*cacheprocess.Config)) (*cacheprocess.Server, error) {
	config := cacheprocess.Config{RemoteURL: b.upstream.URL, Username: username, Password: password}
	if change != nil {
		change(&config)
	}
	b.servers++
	dir := filepath.Join(b.dir, fmt.Sprintf("%s-%d", implementation.Name, b.servers))
	server, err := cacheprocess.New(implementation, dir, config)
	if err != nil {
		return nil, err
	}
	server.Trust(b.identity)
	return server, nil
}

// client creates a client with connections of its own to any of the servers.
func (b *bench) client(url string) *pull.Client {
	client := pull.NewClient(url, &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: b.identity.Pool, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 8,
	})
	client.Authorization = b.authorization
	return client
}

// herd makes n clients pull the image at once and returns the time of the last one.
func (b *bench) herd(ctx context.Context, url string, n int) (time.Duration, error) {
	return b.rush(ctx, rush{url: url, clients: n, do: func(ctx context.Context, client *pull.Client) error {
		_, err := client.Image(ctx, imageName, tag)
		return err
	}})
}

// rush is a request that clients send at the same moment, once each.
type rush struct {
	url     string
	clients int
	// prepare, if set, is called for each client before that.
	prepare, do func(context.Context, *pull.Client) error
}

// rush returns the time of the last client.
func (b *bench) rush(ctx context.Context, r rush) (time.Duration, error) {
	var ready sync.WaitGroup
	ready.Add(r.clients)
	start := make(chan struct{})
	group, ctx := errgroup.WithContext(ctx)
	for range r.clients {
		group.Go(func() error {
			client := b.client(r.url)
			defer client.Close()
			var err error
			if r.prepare != nil {
				err = r.prepare(ctx, client)
			}
			ready.Done()
			if err != nil {
				return err
			}
			<-start
			return r.do(ctx, client)
		})
	}
	ready.Wait()
	begin := time.Now()
	close(start)
	err := group.Wait()
	return time.Since(begin), err
}
