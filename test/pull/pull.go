// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package pull is a light client of registries that pulls images like containerd, verifies them and discards them.
package pull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// maxManifestSize is the size of manifests that registries are expected to accept.
const maxManifestSize = 4 << 20

// accepted are the media types of manifests that container runtimes ask for.
var accepted = strings.Join([]string{
	imagev1.MediaTypeImageManifest,
	imagev1.MediaTypeImageIndex,
	"application/vnd.docker.distribution.manifest.v2+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
	"*/*",
}, ", ")

// Client is a client of one registry.
type Client struct {
	URL  string
	HTTP *http.Client
	// Parallel is the number of concurrent blobs of an image, by default 3 as in containerd.
	Parallel int
	// BytesPerSecond limits the rate of each blob; 0 is no limit.
	BytesPerSecond float64
	// FirstByte, if set, is called at the first byte of each blob.
	FirstByte func()
	// Authorization, if set, is sent with each request. Image sends none until the registry asks for it, like containerd.
	Authorization string
	// asked, if set, is whether the registry has asked for Authorization.
	asked *atomic.Bool
}

// NewClient creates a client with the given transport.
func NewClient(url string, transport *http.Transport) *Client {
	return &Client{URL: url, Parallel: 3, HTTP: &http.Client{Transport: transport}}
}

// ErrWrongContent is the error of complete content with the wrong digest.
var ErrWrongContent = errors.New("wrong content")

// StatusError is a response other than success.
type StatusError struct {
	Status int
	Header http.Header
	Body   string
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("status %d: %s", e.Status, strings.TrimSpace(e.Body))
}

// StatusOf returns the status of the response in an error, or 0.
func StatusOf(err error) int {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Status
	}
	return 0
}

// Do sends a request and returns the response if it is a success.
func (c *Client) Do(ctx context.Context, method, path string, header http.Header) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.URL+path, nil)
	if err != nil {
		return nil, err
	}
	for key, values := range header {
		request.Header[key] = values
	}
	withheld := c.Authorization != "" && c.asked != nil && !c.asked.Load()
	if c.Authorization != "" && !withheld {
		request.Header.Set("Authorization", c.Authorization)
	}
	response, err := c.HTTP.Do(request)
	if err != nil {
		return nil, err
	}
	if withheld && response.StatusCode == http.StatusUnauthorized && response.Header.Get("WWW-Authenticate") != "" {
		_, _ = io.CopyN(io.Discard, response.Body, 4<<10) // so that the connection can be used again
		_ = response.Body.Close()
		c.asked.Store(true)
		return c.Do(ctx, method, path, header)
	}
	if response.StatusCode >= 300 {
		defer func() { _ = response.Body.Close() }()
		body, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
		return nil, &StatusError{Status: response.StatusCode, Header: response.Header, Body: string(body)}
	}
	return response, nil
}

// header sends a request and returns the header of the response.
func (c *Client) header(ctx context.Context, method, path string, header http.Header) (http.Header, error) {
	response, err := c.Do(ctx, method, path, header)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body)
	return response.Header, err
}

// Ping checks the registry's base path.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.header(ctx, http.MethodGet, "/v2/", nil)
	return err
}

// Head resolves a tag or digest. The digest is empty if the registry does not return it.
func (c *Client) Head(ctx context.Context, name, reference string) (digest.Digest, error) {
	header, err := c.header(ctx, http.MethodHead, "/v2/"+name+"/manifests/"+reference, http.Header{"Accept": {accepted}})
	return digest.Digest(header.Get("Docker-Content-Digest")), err
}

// Manifest gets a manifest by tag or digest and verifies it.
func (c *Client) Manifest(ctx context.Context, name, reference string) ([]byte, error) {
	response, err := c.Do(ctx, http.MethodGet, "/v2/"+name+"/manifests/"+reference, http.Header{"Accept": {accepted}})
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxManifestSize))
	if err != nil {
		return nil, err
	}
	want := digest.Digest(response.Header.Get("Docker-Content-Digest"))
	if parsed, err := digest.Parse(reference); err == nil {
		want = parsed
	}
	if got := digest.FromBytes(data); want != "" && got != want {
		return nil, fmt.Errorf("%w: manifest %s has digest %s, want %s", ErrWrongContent, reference, got, want)
	}
	return data, nil
}

var buffers = sync.Pool{New: func() any { return new([128 << 10]byte) }}

// Blob gets a blob, verifies it and returns its size.
func (c *Client) Blob(ctx context.Context, name string, dgst digest.Digest) (int64, error) {
	response, err := c.Do(ctx, http.MethodGet, "/v2/"+name+"/blobs/"+dgst.String(), nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()

	verifier := dgst.Verifier()
	buffer := buffers.Get().(*[128 << 10]byte)
	defer buffers.Put(buffer)
	size, err := c.copy(ctx, verifier, response.Body, buffer[:])
	if err != nil {
		return size, fmt.Errorf("blob %s ends after %d bytes: %w", dgst, size, err)
	}
	if !verifier.Verified() {
		return size, fmt.Errorf("%w: blob %s of %d bytes has another digest", ErrWrongContent, dgst, size)
	}
	return size, nil
}

// copy reads everything at the client's rate.
func (c *Client) copy(ctx context.Context, to io.Writer, from io.Reader, buffer []byte) (int64, error) {
	start, size := time.Now(), int64(0)
	for {
		n, err := from.Read(buffer)
		if n > 0 && size == 0 && c.FirstByte != nil {
			c.FirstByte()
		}
		size += int64(n)
		_, _ = to.Write(buffer[:n]) // a hash never fails
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return size, err
		}
		if c.BytesPerSecond > 0 {
			due := start.Add(time.Duration(float64(size) / c.BytesPerSecond * float64(time.Second)))
			select {
			case <-time.After(time.Until(due)):
			case <-ctx.Done():
				return size, ctx.Err()
			}
		}
	}
}

// Image pulls an image by tag or digest: it resolves it and gets the manifest and all blobs. It returns their total
// size.
func (c *Client) Image(ctx context.Context, name, reference string) (int64, error) {
	pulling := *c
	pulling.asked = new(atomic.Bool)
	c = &pulling
	dgst, err := c.Head(ctx, name, reference)
	if err != nil {
		return 0, fmt.Errorf("resolve %s:%s: %w", name, reference, err)
	}
	if dgst != "" {
		reference = dgst.String()
	}
	data, err := c.Manifest(ctx, name, reference)
	if err != nil {
		return 0, fmt.Errorf("get manifest %s of %s: %w", reference, name, err)
	}
	var manifest imagev1.Manifest
	if err := json.Unmarshal(data, &manifest); err != nil {
		return 0, err
	}

	sizes := make([]int64, 1+len(manifest.Layers))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.Parallel)
	for i, descriptor := range append([]imagev1.Descriptor{manifest.Config}, manifest.Layers...) {
		group.Go(func() error {
			var err error
			sizes[i], err = c.Blob(ctx, name, descriptor.Digest)
			return err
		})
	}
	err = group.Wait()
	total := int64(len(data))
	for _, size := range sizes {
		total += size
	}
	return total, err
}

// Close closes idle connections.
func (c *Client) Close() { c.HTTP.CloseIdleConnections() }
