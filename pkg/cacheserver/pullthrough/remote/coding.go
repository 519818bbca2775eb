// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/opencontainers/go-digest"
)

// The cache requests responses without a coding. Some proxies compress them regardless; those are decoded. Others
// declare the content's own compression, as object storage does for layers; the digest shows which is the case.

// codings returns the codings of a response that can be undone, in the order in which they were applied.
func codings(header http.Header) []string {
	var all []string
	for value := range strings.SplitSeq(strings.Join(header.Values("Content-Encoding"), ","), ",") {
		switch value = strings.ToLower(strings.TrimSpace(value)); value {
		case "gzip", "x-gzip", "deflate":
			all = append(all, strings.TrimPrefix(value, "x-"))
		}
	}
	if len(all) > maxCodings {
		return nil
	}
	return all
}

const maxCodings = 2

// decoded returns a body without the codings of its response. It returns the body unchanged if there are none, if
// decoding fails, or if the content is larger than limit.
func decoded(resp *http.Response, body []byte, limit int64) []byte {
	all := codings(resp.Header)
	if len(all) == 0 {
		return body
	}
	content, err := io.ReadAll(io.LimitReader(newDecoder(bytes.NewReader(body), all), limit+1))
	if err != nil || int64(len(content)) > limit {
		return body
	}
	return content
}

// decoder undoes codings lazily, starting with the first Read.
type decoder struct {
	source  io.Reader
	codings []string
	reader  io.Reader
}

func newDecoder(source io.Reader, codings []string) *decoder {
	return &decoder{source: source, codings: codings}
}

// Read implements io.Reader.
func (d *decoder) Read(p []byte) (int, error) {
	if d.reader == nil {
		reader := d.source
		for i := len(d.codings) - 1; i >= 0; i-- {
			var err error
			if reader, err = decode(reader, d.codings[i]); err != nil {
				return 0, err
			}
		}
		d.reader = reader
	}
	return d.reader.Read(p)
}

func decode(source io.Reader, coding string) (io.Reader, error) {
	if coding == "gzip" {
		return gzip.NewReader(source)
	}
	// Some servers send raw deflate, without the zlib header that the coding requires.
	buffered := bufio.NewReader(source)
	header, err := buffered.Peek(2)
	if err == nil && header[0]&0x0f == 8 && (int(header[0])<<8|int(header[1]))%31 == 0 {
		return zlib.NewReader(buffered)
	}
	return flate.NewReader(buffered), nil
}

// maxMisjudged bounds the digests that are remembered.
const maxMisjudged = 256

// misjudged are the blobs for which the first guess, whether their codings are the content's own, was wrong.
type misjudged struct {
	mu      sync.Mutex
	digests *simplelru.LRU[digest.Digest, struct{}]
}

func newMisjudged() *misjudged {
	return &misjudged{digests: newLRU[digest.Digest, struct{}](maxMisjudged)}
}

func (m *misjudged) has(d digest.Digest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.digests.Get(d)
	return ok
}

func (m *misjudged) toggle(d digest.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.digests.Remove(d) {
		m.digests.Add(d, struct{}{})
	}
}

// judged verifies a blob with its size and digest as it is read, to decide for the next fetch whether to undo its
// codings. A reader that knows the size stops there, and does not reach the end of larger content.
type judged struct {
	io.ReadCloser
	content io.Reader
	// size is that of the blob, 0 if unknown.
	size, read int64
	verifier   digest.Verifier
	wrong      func()
}

// Read implements io.Reader.
func (j *judged) Read(p []byte) (int, error) {
	n, err := j.content.Read(p)
	_, _ = j.verifier.Write(p[:n])
	j.read += int64(n)
	tooLarge := j.size > 0 && j.read > j.size
	if (tooLarge || err != nil) && j.wrong != nil {
		if !j.verifier.Verified() && (tooLarge || err == io.EOF || isCorrupt(err)) {
			j.wrong()
		}
		j.wrong = nil
	}
	return n, err
}

// isCorrupt reports whether content does not have its declared coding.
func isCorrupt(err error) bool {
	var corrupt flate.CorruptInputError
	if errors.As(err, &corrupt) {
		return true
	}
	for _, cause := range []error{gzip.ErrHeader, gzip.ErrChecksum, zlib.ErrHeader, zlib.ErrChecksum} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}
