// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package blobs

import (
	"context"
	"errors"
	"io"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
)

var errPlainRead = errors.New("a transfer is read by CopyTo only")

// stream makes a transfer look like a file to http.ServeContent, which seeks to find the size and the range, and passes
// the stream to response.Body.
type stream struct {
	reader   *transfer.Reader
	size     int64
	position int64
}

// Seek implements io.Seeker.
func (s *stream) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
		s.position = offset
	case io.SeekCurrent:
		s.position += offset
	case io.SeekEnd:
		s.position = s.size + offset
	}
	return s.position, nil
}

// CopyTo implements response.Stream.
func (s *stream) CopyTo(ctx context.Context, w io.Writer, n int64) (int64, error) {
	return s.reader.Copy(ctx, w, s.position, n)
}

// Read implements io.Reader. http.ServeContent reads only what has no content type or asks for several ranges.
func (*stream) Read([]byte) (int, error) { return 0, errPlainRead }
