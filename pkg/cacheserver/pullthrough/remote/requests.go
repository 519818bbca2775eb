// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	// MaxManifest is the largest manifest that is read, as for Distribution.
	MaxManifest = 4 << 20
	maxDocument = 4 << 20
	// maxReading bounds the memory of all responses that are being read. Most are small, but the upstream decides on
	// their size, and clients on their number.
	maxReading = 32 << 20
	// firstReading is the share of that for a response at first, which suffices for most.
	firstReading = 64 << 10
)

// manifestTypes are all types, since the cache fetches on behalf of clients that it does not know yet.
var manifestTypes = strings.Join([]string{
	"application/vnd.oci.image.index.v1+json",
	"application/vnd.oci.image.manifest.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
	"application/vnd.docker.distribution.manifest.v2+json",
	"application/vnd.oci.artifact.manifest.v1+json",
	"*/*;q=0.1",
}, ", ")

// Resolve implements Registry.
func (c *Client) Resolve(ctx context.Context, repository, tag string) (digest.Digest, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeouts.small())
	defer cancel()
	if c.mislabels.has(kindManifest, c.now()) {
		return "", nil
	}
	resp, err := c.do(ctx, call{
		kind: kindManifest + headSuffix, method: http.MethodHead, repository: repository, path: manifests + tag,
		header: http.Header{"Accept": {manifestTypes}},
	})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.Request.Method == http.MethodGet {
		m, err := c.readManifest(ctx, resp, repository, tag)
		return m.Digest, err
	}
	d, err := digest.Parse(resp.Header.Get("Docker-Content-Digest"))
	if err != nil {
		return "", nil //nolint:nilerr // Old registries do not send the digest.
	}
	return d, nil
}

// FetchManifest implements Registry.
func (c *Client) FetchManifest(ctx context.Context, repository, reference string) (Manifest, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeouts.small())
	defer cancel()
	resp, err := c.do(ctx, call{
		kind: kindManifest, method: http.MethodGet, repository: repository, path: manifests + reference,
		header: http.Header{"Accept": {manifestTypes}},
	})
	if err != nil {
		return Manifest{}, err
	}
	defer resp.Body.Close()
	return c.readManifest(ctx, resp, repository, reference)
}

// readManifest reads a manifest and verifies it with its digest, which is in the reference, or in a header.
func (c *Client) readManifest(ctx context.Context, resp *http.Response, repository, reference string) (Manifest, error) {
	raw, err := c.readAll(ctx, resp, MaxManifest)
	if err != nil {
		return Manifest{}, err
	}
	m := Manifest{MediaType: parseMediaType(resp.Header.Get("Content-Type")), Content: decoded(resp, raw, MaxManifest)}
	wanted, err := digest.Parse(reference)
	byTag := err != nil
	if byTag {
		wanted, err = digest.Parse(resp.Header.Get("Docker-Content-Digest"))
	}
	switch {
	case err == nil && wanted.Algorithm().FromBytes(m.Content) == wanted:
		m.Digest = wanted
		return m, nil
	case err == nil && wanted.Algorithm().FromBytes(raw) == wanted:
		m.Digest, m.Content = wanted, raw
		return m, nil
	case m.MediaType == webPage:
		return Manifest{}, c.fail(Invalid, resp.StatusCode, "sent a web page instead of a manifest")
	case isSchema1(m.MediaType):
		return Manifest{}, c.fail(Invalid, resp.StatusCode, "has the image only in Docker's schema 1, which the cache does not serve; push it again with a current client")
	case byTag && err != nil && !json.Valid(m.Content):
		// It has neither a digest nor the form of a manifest: it may be the page of a portal, or a truncated response.
		return Manifest{}, c.fail(Invalid, resp.StatusCode, "sent something other than a manifest")
	}
	m.Digest = digest.FromBytes(m.Content)
	if err != nil || byTag && c.confirms(ctx, repository, m.Digest) {
		return m, nil
	}
	return Manifest{}, c.fail(Invalid, resp.StatusCode, "sent a manifest that does not match its digest")
}

const webPage = "text/html"

func isSchema1(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.docker.distribution.manifest.v1+")
}

// confirms reports whether the upstream has a manifest with this digest. Some registries send another digest in the
// header, such as that of an older form of the manifest; then the content counts, unless it is corrupt.
func (c *Client) confirms(ctx context.Context, repository string, d digest.Digest) bool {
	_, err := c.FetchManifest(ctx, repository, d.String())
	if err == nil {
		c.mislabels.note(kindManifest, c.now())
	}
	return err == nil
}

// StatBlob implements Registry.
func (c *Client) StatBlob(ctx context.Context, repository string, d digest.Digest) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeouts.small())
	defer cancel()
	resp, err := c.do(ctx, call{
		kind: kindBlob + headSuffix, method: http.MethodHead, repository: repository, path: blobs + d.String(), header: http.Header{},
	})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	// A length of 0 may be that of a missing body, and that of a coded response is not the blob's.
	if resp.ContentLength == 0 && d != d.Algorithm().FromBytes(nil) || len(codings(resp.Header)) > 0 {
		return -1, nil
	}
	return resp.ContentLength, nil
}

// FetchBlob implements Registry. If the upstream refuses the range, it fetches the whole blob.
func (c *Client) FetchBlob(ctx context.Context, repository string, d digest.Digest, from Position) (*Blob, error) {
	b, err := c.fetchBlob(ctx, repository, d, from)
	var refusal *Error
	if from.Offset > 0 && errors.As(err, &refusal) && ofRange(refusal) {
		return c.fetchBlob(ctx, repository, d, Position{Size: from.Size})
	}
	return b, err
}

func (c *Client) fetchBlob(ctx context.Context, repository string, d digest.Digest, from Position) (*Blob, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	header := http.Header{}
	if from.Offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", from.Offset))
		if from.ETag != "" {
			header.Set("If-Range", from.ETag)
		}
	}
	// The body has timeouts of its own; all before it, such as a token, a redirect or a refusal, is small.
	timer := time.AfterFunc(c.timeouts.small(), func() { cancel(c.fail(Unavailable, 0, "no response in time")) })
	resp, err := c.do(ctx, call{
		kind: kindBlob, method: http.MethodGet, repository: repository, path: blobs + d.String(), header: header,
	})
	timer.Stop()
	if err != nil {
		cancel(nil)
		return nil, err
	}
	b := &Blob{
		Size: resp.ContentLength, ETag: parseETag(resp.Header.Get("ETag")),
		Page: parseMediaType(resp.Header.Get("Content-Type")) == webPage,
	}
	coded := codings(resp.Header)
	undo := len(coded) > 0 && c.undoes(d, resp, from.Size)
	if resp.StatusCode == http.StatusPartialContent {
		r, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err != nil || r.first != from.Offset || undo {
			cancel(nil)
			_ = resp.Body.Close()
			return nil, c.fail(Invalid, resp.StatusCode, "sent another range than requested")
		}
		b.Offset, b.Size = r.first, r.size
	}
	resumable := resp.StatusCode == http.StatusPartialContent || from.Offset == 0 && resp.Header.Get("Accept-Ranges") == "bytes"
	body := newTimedBody(c, resp.Body, resumable, cancel)
	b.Body = body
	if len(coded) > 0 && b.Offset == 0 {
		j := &judged{ReadCloser: body, content: body, size: from.Size, verifier: d.Verifier(), wrong: func() { c.coded.toggle(d) }}
		if undo {
			j.content = newDecoder(body, coded)
			b.Size, b.ETag = -1, ""
		}
		b.Body = j
	}
	return b, nil
}

// undoes reports whether to undo the codings of a blob. If the blob's size is known, the length of the response
// decides. Otherwise the response is taken for the content itself if it has a length, which storage knows that declares
// the content's own compression, and a proxy that compresses does not. If that was wrong the last time, it is the
// reverse.
func (c *Client) undoes(d digest.Digest, resp *http.Response, size int64) bool {
	length := resp.ContentLength
	if resp.StatusCode == http.StatusPartialContent {
		length = -1
		if r, err := parseContentRange(resp.Header.Get("Content-Range")); err == nil {
			length = r.size
		}
	}
	if length >= 0 && size > 0 {
		return length != size
	}
	return (length < 0) != c.coded.has(d)
}

// List implements Registry.
func (c *Client) List(ctx context.Context, repository, path string, query url.Values) (Document, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeouts.small())
	defer cancel()
	resp, err := c.do(ctx, call{kind: kindList, method: http.MethodGet, repository: repository, path: path, query: query, header: http.Header{}})
	if err != nil {
		return Document{}, err
	}
	content, err := c.readAll(ctx, resp, maxDocument)
	if err != nil {
		return Document{}, err
	}
	return Document{Content: decoded(resp, content, maxDocument), Next: parseNext(resp.Header["Link"])}, nil
}

// readAll reads and closes a body of at most limit bytes.
func (c *Client) readAll(ctx context.Context, resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	if resp.ContentLength > limit {
		return nil, c.tooLarge(resp, limit)
	}
	size := resp.ContentLength
	if size < 0 {
		size = limit
	}
	// A response that has sent little so far reserves little memory.
	first := min(size, firstReading)
	if err := c.memory.Acquire(ctx, first); err != nil {
		return nil, c.busy(ctx)
	}
	defer c.memory.Release(first)
	content, err := io.ReadAll(io.LimitReader(resp.Body, first))
	if err == nil && int64(len(content)) == first {
		if !c.memory.TryAcquire(size - first) { // Waiting for more while holding some could deadlock.
			return nil, c.busy(ctx)
		}
		defer c.memory.Release(size - first)
		var rest []byte
		rest, err = io.ReadAll(io.LimitReader(resp.Body, limit+1-first))
		content = append(content, rest...)
	}
	switch {
	case err != nil && errors.Is(ctx.Err(), context.Canceled):
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, c.fail(Unavailable, resp.StatusCode, "broke off its response")
	case int64(len(content)) > limit:
		return nil, c.tooLarge(resp, limit)
	}
	return content, nil
}

// busy is the error for a response that exceeds the memory for responses.
func (c *Client) busy(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Cause(ctx)
	}
	err := c.fail(Unavailable, 0, "the cache is busy with its other responses")
	err.local = true
	return err
}

func (c *Client) tooLarge(resp *http.Response, limit int64) error {
	return c.fail(Invalid, resp.StatusCode, "response is larger than "+strconv.FormatInt(limit, 10)+" bytes")
}
