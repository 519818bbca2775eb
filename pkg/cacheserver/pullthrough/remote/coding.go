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

	"github.com/opencontainers/go-digest"
)

// The cache asks for answers as they are. Proxies on the way compress them all the same, so what is not what was asked for is
// decoded. Others declare the content's own compression, as object storage does for layers; the digest tells which is which.

// codings returns the codings of an answer that can be undone, in the order in which they were put on.
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

// decoded returns the content of an answer whose body has been read, without its codings: as it is, if there are none, or if
// it is not what they say, or larger than limit.
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

// decoder undoes codings as it is read. Nothing is read before that.
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
	// Some servers take deflate at its word, and leave out the header that is meant to be around it.
	buffered := bufio.NewReader(source)
	header, err := buffered.Peek(2)
	if err == nil && header[0]&0x0f == 8 && (int(header[0])<<8|int(header[1]))%31 == 0 {
		return zlib.NewReader(buffered)
	}
	return flate.NewReader(buffered), nil
}

// maxMisjudged bounds how many digests are remembered.
const maxMisjudged = 256

// misjudged are the blobs whose codings turned out to be the content's own, or not to be, against the first guess.
type misjudged struct {
	mu      sync.Mutex
	digests map[digest.Digest]bool
}

func (m *misjudged) has(d digest.Digest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.digests[d]
}

func (m *misjudged) toggle(d digest.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.digests[d] {
		delete(m.digests, d)
		return
	}
	if m.digests == nil || len(m.digests) >= maxMisjudged {
		m.digests = map[digest.Digest]bool{}
	}
	m.digests[d] = true
}

// judged compares a blob with its size and digest as it is read, to know for the next time whether its codings are to be undone.
// A reader that knows the size stops there, and does not reach the end of what is larger.
type judged struct {
	io.ReadCloser
	content io.Reader
	// size is that of the blob, 0 if it is not known.
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

// isCorrupt reports whether content is not coded as it was said to be.
func isCorrupt(err error) bool {
	var corrupt flate.CorruptInputError
	if errors.As(err, &corrupt) {
		return true
	}
	for _, sign := range []error{gzip.ErrHeader, gzip.ErrChecksum, zlib.ErrHeader, zlib.ErrChecksum} {
		if errors.Is(err, sign) {
			return true
		}
	}
	return false
}
