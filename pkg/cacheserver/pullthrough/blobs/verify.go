// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package blobs

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/content"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
	"github.com/larder-project/larder/pkg/cacheserver/status"
)

const (
	// verifyFirstBytes is the largest file that is verified before its first byte is sent, so that a corrupt file can
	// be fetched again without an error. Larger ones are sent while they are verified.
	verifyFirstBytes = 64 << 20
	// returnWindow is the time within which a second request of a client for the same blob makes its file suspect.
	returnWindow = 10 * time.Minute
	// trustWindow is how long a verified file is not suspect, so that clients cannot keep the cache verifying.
	trustWindow = time.Hour
	// maxDeliveries bounds the deliveries that are remembered.
	maxDeliveries = 4096
)

type delivery struct {
	client string
	digest digest.Digest
}

// delivered records that a client got all of a blob from its file.
func (s *Service) delivered(client string, d digest.Digest) {
	s.deliveries.Add(delivery{client, d}, s.Now())
}

// returned reports whether a client asks again for a blob that it got, and the file was not verified lately. A client
// that verifies digests and requests the same blob again has probably received corrupt bytes from a failing disk. The
// file system does not notice: the file still looks as it did when it was verified.
func (s *Service) returned(client string, d digest.Digest, verified time.Time) bool {
	if status.IsRecent(verified, s.Now(), trustWindow) {
		return false
	}
	at, ok := s.deliveries.Get(delivery{client, d})
	return ok && s.Now().Sub(at) < returnWindow
}

// verify serves a file from a transfer that verifies it.
func (s *Service) verify(ctx context.Context, d digest.Digest) (*opened, error) {
	reader, _, err := s.Transfers.Start(d, "", s.verifyWork(d))
	if err != nil {
		return nil, err
	}
	size, err := reader.WaitSize(ctx)
	if err == nil && size <= verifyFirstBytes {
		size, err = reader.WaitVerified(ctx)
	}
	if err != nil {
		_ = reader.Close()
		return nil, err
	}
	return &opened{reader: reader, size: size, outcome: event.Hit}, nil
}

// verifyWork compares a file with its digest.
func (s *Service) verifyWork(d digest.Digest) transfer.Work {
	return func(ctx context.Context, t *transfer.Transfer) error {
		release, err := s.verifications.Acquire(ctx)
		if err != nil {
			return err
		}
		defer release()
		if !t.Wanted() {
			return transfer.ErrAbandoned
		}
		file, err := s.Content.Open(d)
		if err != nil {
			return err
		}
		defer file.Close()
		s.Metrics.ActiveTransfers.Inc()
		defer s.Metrics.ActiveTransfers.Dec()
		s.Content.Discover(d, file.Size)
		t.Begin(file.Size, func() (*os.File, error) { return s.openAgain(d) })
		size, err := hashFile(ctx, t, file, d)
		switch {
		case errors.Is(err, store.ErrMismatch):
			return errors.Join(err, s.Content.DropCorrupt(d, err))
		case err != nil:
			return err
		}
		s.Content.MarkVerified(d, file)
		t.Verified(size)
		return nil
	}
}

// openAgain opens a file for one more reader.
func (s *Service) openAgain(d digest.Digest) (*os.File, error) {
	blob, err := s.Content.Open(d)
	if err != nil {
		return nil, err
	}
	return blob.File, nil
}

// hashFile hashes a file and announces its bytes to the readers of the transfer.
func hashFile(ctx context.Context, t *transfer.Transfer, file *content.Blob, d digest.Digest) (int64, error) {
	pooled := fetchBuffers.Get().(*[]byte)
	defer fetchBuffers.Put(pooled)
	verifier := d.Verifier()
	var size int64
	for ctx.Err() == nil {
		n, err := file.Read(*pooled)
		_, _ = verifier.Write((*pooled)[:n])
		size += int64(n)
		t.Advance(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return size, err
		}
	}
	if ctx.Err() != nil {
		return size, context.Cause(ctx)
	}
	if !verifier.Verified() {
		return size, store.ErrMismatch
	}
	return size, nil
}
