// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package blobs

import (
	"context"
	"errors"
	"hash"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/content"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
	"github.com/larder-project/larder/pkg/limit"
)

// errStored ends a fetch of what another fetch has stored since it was looked for.
var errStored = errors.New("the content is stored already")

const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
	// minProgress is what an attempt has to fetch not to count as another failure in a row. Without it, an upstream that
	// breaks off after every few bytes would be asked again without end.
	minProgress = 64 << 10
	// maxRateLimit is the longest rate limit that a fetch waits for.
	maxRateLimit = time.Minute
)

// fetch is one fetch of a blob.
type fetch struct {
	*Service
	key
	// apart means that the blob does not become part of the repository.
	apart    bool
	transfer *transfer.Transfer

	hash   hash.Hash
	size   int64 // of the whole blob, or transfer.Unknown
	offset int64 // bytes that have arrived and are hashed
	pulled int64 // bytes that were fetched, some of them more than once perhaps
	etag   string
	begun  bool
	// upload stores the bytes, nil if they are not stored. Then unstoredBy says why.
	upload     *content.Upload
	unstoredBy error
	// releases are called at the end.
	releases []func()
}

// fetchWork fetches a blob by way of a repository, which it becomes part of unless it is kept apart.
func (s *Service) fetchWork(k key, apart bool) transfer.Work {
	return func(ctx context.Context, t *transfer.Transfer) error {
		started := time.Now()
		f := &fetch{Service: s, key: k, apart: apart, transfer: t, size: transfer.Unknown, hash: k.digest.Algorithm().Hash()}
		defer f.release()
		if err := f.acquire(ctx, s.fetches); err != nil {
			return err
		}
		if !t.Wanted() {
			return transfer.ErrAbandoned
		}
		s.Metrics.ActiveTransfers.Inc()
		defer s.Metrics.ActiveTransfers.Dec()
		fetching := time.Now()
		err := f.run(ctx)
		s.Metrics.Repositories.Fetched(k.repository, f.pulled, time.Since(fetching))
		if err != nil {
			s.Metrics.FetchFailed(ctx, err)
			if f.begun && ctx.Err() == nil { // Clients only see that their responses break off.
				f.log().WithError(err).Warn("Fetch of a blob broke off")
			}
			return err
		}
		// Without an upload, the readers have the blob nevertheless. The next one has to fetch it again.
		if f.upload != nil {
			if err := f.upload.Commit(); err != nil {
				f.notStored("Failed to store a blob", err)
			}
		}
		if f.unstoredBy != nil {
			s.Metrics.NotStored(f.unstoredBy)
			return nil
		}
		s.Metrics.FillDuration.Observe(time.Since(started).Seconds())
		return nil
	}
}

// notStored records why the blob is not stored. A full volume is not worth a line for each blob.
func (f *fetch) notStored(message string, err error) {
	if !content.IsFull(err) {
		f.log().WithError(err).Warn(message)
	}
	f.unstoredBy = err
	f.transfer.Unstored(err)
}

func (f *fetch) log() logrus.FieldLogger {
	return f.Log.WithFields(logrus.Fields{"repository": f.repository, "digest": f.digest})
}

// unlessStored returns work that ends at once if another fetch has stored the blob by then.
func (s *Service) unlessStored(d digest.Digest, work transfer.Work) transfer.Work {
	return func(ctx context.Context, t *transfer.Transfer) error {
		if s.Content.IsVerified(d) {
			return errStored
		}
		return work(ctx, t)
	}
}

// acquire waits for a slot while clients wait: a refused client would pull the blob from the upstream itself. The
// fetches ahead of it end within their own time limits.
func (f *fetch) acquire(ctx context.Context, slots limit.Limit) error {
	defer f.waiting.Add(-1)
	if f.waiting.Add(1) > maxWaiting {
		return limit.ErrBusy
	}
	release, err := slots.Acquire(ctx)
	if err == nil {
		f.releases = append(f.releases, release)
	}
	return err
}

func (f *fetch) release() {
	if f.upload != nil {
		f.upload.Discard()
	}
	for _, release := range f.releases {
		release()
	}
}

// run fetches until all is there and verified, resuming when the upstream breaks off. If it resumes instead of waiting
// for a body that has stopped, it does not fail before that wait would have ended.
func (f *fetch) run(ctx context.Context) error {
	backoff := minBackoff
	var patient time.Time
	for failures := 0; ; {
		before := f.offset
		err := f.attempt(ctx)
		if err == nil {
			break
		}
		if !f.resumable(err) || ctx.Err() != nil {
			return err
		}
		if failures++; f.offset-before >= minProgress {
			failures, backoff = 1, minBackoff
		}
		if failures == 1 {
			patient = time.Now().Add(patience(err))
		}
		if failures > f.Retries && !time.Now().Before(patient) || f.offset == 0 && (failures > 1 || !responded(err)) {
			return err
		}
		f.Metrics.Resumed.Inc()
		if !sleep(ctx, max(backoff, retryAfter(err))) {
			return context.Cause(ctx)
		}
		backoff = min(2*backoff, maxBackoff)
	}
	if digest.NewDigest(f.digest.Algorithm(), f.hash) != f.digest {
		return store.ErrMismatch
	}
	f.Metrics.Misses.WithLabelValues(metrics.Blob).Inc()
	f.size = f.offset
	f.transfer.Verified(f.size)
	return nil
}

// resumable reports whether another attempt may help. It waits for a rate limit only if clients have already received a
// part. Otherwise they get the error and can decide for themselves.
func (f *fetch) resumable(err error) bool {
	var e *remote.Error
	switch {
	case !errors.As(err, &e):
		return false
	case e.Reason == remote.RateLimited:
		return f.offset > 0 && e.RetryAfter <= maxRateLimit
	}
	return e.Temporary()
}

// retryAfter returns how long a rate limit lasts, 0 if the error is about something else.
func retryAfter(err error) time.Duration {
	var e *remote.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.RetryAfter
}

// patience returns how long to retry before the fetch fails.
func patience(err error) time.Duration {
	var e *remote.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Patience
}

// responded reports whether the upstream responded at all. If not, the attempt has already used up a timeout, and
// another would double the wait.
func responded(err error) bool {
	var e *remote.Error
	return !errors.As(err, &e) || e.Responded()
}

// sleep waits for d and reports whether ctx is still active.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
