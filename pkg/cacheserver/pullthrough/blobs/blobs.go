// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package blobs serves blobs: from a verified file, which the kernel sends, or by following the transfer that fetches
// or verifies them.
//
// A blob is served from a repository if that repository links it, if an image of the repository proves that the
// repository has it (see content.Proved), or if the upstream confirms it. So one repository's content does not leak
// into another by its digest, and content that several repositories share is fetched once.
//
// Content that does not fit on the volume even after eviction streams through a small window in memory (see package
// transfer) and is not stored. Clients that come together share that fetch; one that comes after the window has moved
// on begins another.
package blobs

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/content"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifests"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/response"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/source"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
	"github.com/larder-project/larder/pkg/limit"
)

const (
	// maxUnstored is how many fetches may stream through memory at a time.
	maxUnstored = 16
	// maxLarge is how many fetches have a buffer of fetchBytes. When there are more at a time, each gets little of the
	// upstream's bandwidth, so its pieces are small anyway.
	maxLarge = 16
	// maxWaiting bounds the fetches that wait for a slot. It is enough for many nodes that pull different images at
	// once, and bounds memory.
	maxWaiting = 1024
)

// Options are what a Service depends on.
type Options struct {
	Content   *content.Content
	Source    *source.Source
	Manifests *manifests.Service
	// Transfers are the blobs that are being fetched or verified.
	Transfers *transfer.Group
	// MaxFetches is how many blobs are fetched at a time.
	MaxFetches int
	// Retries is how often in a row a fetch is resumed without much progress.
	Retries int
	// Proven reports whether the upstream itself serves the blob of a request to the client. If it is set, the images
	// of a repository prove nothing about its blobs: whoever can push one to an upstream that does not look for its
	// blobs could read those of other repositories, given their digests. If it is nil, all clients may read the same
	// repositories.
	Proven func(context.Context) bool
	// Apart reports whether the blob of a request must not become part of its repository, since others who read the
	// repository may not be allowed to read the blob. It is nil if Proven is.
	Apart   func(context.Context) bool
	Metrics *metrics.Metrics
	Log     logrus.FieldLogger
	Now     func() time.Time
}

// Service serves the blobs of all repositories.
type Service struct {
	Options
	sizes *coalesce.Group[key, int64]
	// deliveries are the blobs that clients got, see returned.
	deliveries *lru.Cache[delivery, time.Time]

	fetches, unstored, large, verifications limit.Limit
	waiting                                 atomic.Int32
}

type key struct {
	repository string
	digest     digest.Digest
}

// New returns a service.
func New(o Options) *Service {
	deliveries, _ := lru.New[delivery, time.Time](maxDeliveries) // It fails for sizes below 1 only.
	return &Service{
		Options:       o,
		sizes:         coalesce.New[key, int64](),
		deliveries:    deliveries,
		fetches:       limit.New(o.MaxFetches),
		unstored:      limit.New(min(o.MaxFetches, maxUnstored)),
		large:         limit.New(maxLarge),
		verifications: limit.New(max(2, runtime.GOMAXPROCS(0))),
	}
}

// Close ends all work.
func (s *Service) Close() {
	s.Transfers.Close()
	s.sizes.Close()
}

// Forget keeps later requests from waiting for work under way, which may be stuck on the volume.
func (s *Service) Forget() { s.sizes.Forget() }

// opened is where the bytes of a blob come from: a verified file, a transfer, or, for HEAD, nowhere.
type opened struct {
	file   *content.Blob
	reader *transfer.Reader
	size   int64
	// outcome is how that serves this client: a hit, a miss, or joined. Cause says more about it.
	outcome event.Outcome
	cause   string
}

// unstored returns why the blob that was fetched for this client is not stored, nil as far as is known yet.
func (o *opened) unstored() error {
	if o.reader == nil {
		return nil
	}
	return o.reader.Unstored()
}

func (o *opened) close() {
	if o.file != nil {
		_ = o.file.Close()
	}
	if o.reader != nil {
		_ = o.reader.Close()
	}
}

// open finds a blob: on disk, in a transfer, or upstream. A blob that is on its way at the first look may be on disk
// before a fetch begins.
func (s *Service) open(ctx context.Context, k key, headOnly bool) (*opened, error) {
	o, err := s.find(ctx, k, headOnly)
	if errors.Is(err, errStored) {
		return s.find(ctx, k, headOnly)
	}
	return o, err
}

func (s *Service) find(ctx context.Context, k key, headOnly bool) (*opened, error) {
	ownership := s.ownership(ctx, k)
	if ownership == content.None && headOnly {
		return s.stat(ctx, k)
	}
	file, err := s.Content.Open(k.digest)
	if err != nil && !errors.Is(err, content.ErrNotFound) {
		return nil, err
	}
	if file != nil {
		if err := s.claim(ctx, k, ownership); err != nil {
			_ = file.Close()
			return nil, err
		}
		o, err := s.openFile(ctx, k.digest, file)
		if err == nil && ownership == content.None {
			o.cause = event.CauseUnproven
		}
		if err == nil || ctx.Err() != nil {
			return o, err
		}
		ownership = content.Linked
	}
	if headOnly {
		return s.stat(ctx, k)
	}
	fetch := s.fetchWork(k, s.apart(ctx))
	if file == nil {
		fetch = s.unlessStored(k.digest, fetch)
	}
	return s.follow(ctx, k, fetch, ownership)
}

// ownership returns why a repository may serve a blob.
func (s *Service) ownership(ctx context.Context, k key) content.Ownership {
	switch {
	case s.Proven == nil:
		return s.Content.Ownership(k.repository, k.digest)
	case s.Content.IsLinked(k.repository, k.digest):
		return content.Linked
	case s.Proven(ctx):
		return content.Proved
	}
	return content.None
}

// openFile serves an open file, after its verification if that is due.
func (s *Service) openFile(ctx context.Context, d digest.Digest, file *content.Blob) (*opened, error) {
	o := &opened{file: file, size: file.Size, outcome: event.Hit}
	if file.Verified.IsZero() || s.returned(response.From(ctx).Client(), d, file.Verified) {
		_ = file.Close()
		var err error
		if o, err = s.verify(ctx, d); err != nil {
			return nil, err
		}
	}
	s.Content.Touch(d)
	return o, nil
}

// claim links a blob that is stored, or is being fetched for another repository, to this repository. Without an
// Ownership, it asks the upstream first.
func (s *Service) claim(ctx context.Context, k key, ownership content.Ownership) error {
	if ownership == content.None {
		if _, err := s.stat(ctx, k); err != nil {
			return err
		}
	}
	if ownership != content.Linked {
		s.link(ctx, k)
	}
	return nil
}

func (s *Service) apart(ctx context.Context) bool { return s.Apart != nil && s.Apart(ctx) }

// link makes a blob part of a repository, unless the request keeps it apart.
func (s *Service) link(ctx context.Context, k key) {
	if !s.apart(ctx) {
		s.Content.Link(k.repository, k.digest)
	}
}

// owner names who a transfer is for: a repository, or those requests for it that keep its blobs apart.
func (s *Service) owner(ctx context.Context, k key) string {
	if s.apart(ctx) {
		return "apart:" + k.repository // No repository has such a name.
	}
	return k.repository
}

// stat asks the upstream for the size of a blob.
func (s *Service) stat(ctx context.Context, k key) (*opened, error) {
	call, joined := s.sizes.Start(k, func(ctx context.Context) (int64, error) {
		return s.Source.StatBlob(ctx, k.repository, k.digest)
	})
	s.Metrics.Joined(metrics.Blob, joined)
	size, err := call.Wait(ctx)
	if err != nil {
		return nil, err
	}
	if declared := s.declaredSize(ctx, k); declared != transfer.Unknown {
		size = declared // Some upstreams give any length in response to HEAD.
	}
	return &opened{size: size, outcome: event.Fetched(joined)}, nil
}

// declaredSize is the size of a blob as an image of the repository declares it, transfer.Unknown if none does.
func (s *Service) declaredSize(ctx context.Context, k key) int64 {
	for size := range s.Manifests.DeclaredSizes(ctx, k.repository, k.digest) {
		return size
	}
	return transfer.Unknown
}

// maxAttempts bounds the transfers that a client follows until it gets the error of the last one.
const maxAttempts = 4

// follow serves a blob from the transfer that fetches it. A transfer for another repository is followed only when it is
// certain that this one has the blob as well.
func (s *Service) follow(ctx context.Context, k key, fetch transfer.Work, ownership content.Ownership) (*opened, error) {
	unproven, owner := false, s.owner(ctx, k)
	for attempt := 1; ; attempt++ {
		reader, joined, err := s.Transfers.Start(k.digest, owner, fetch)
		if err != nil {
			return nil, err
		}
		foreign := reader.Owner() != owner
		if foreign && ownership == content.None {
			if err := s.claim(ctx, k, ownership); err != nil {
				_ = reader.Close()
				return nil, err
			}
			ownership, unproven = content.Linked, true
		}
		size, err := reader.WaitSize(ctx)
		if err == nil && size == 0 {
			size, err = reader.WaitVerified(ctx) // There is no last byte to withhold until it is verified.
		}
		if err == nil {
			s.Metrics.Joined(metrics.Blob, joined)
			if foreign {
				s.link(ctx, k) // The fetch links it for its owner only.
			}
			o := &opened{reader: reader, size: size, outcome: event.Fetched(joined)}
			if unproven {
				o.cause = event.CauseUnproven
			}
			return o, nil
		}
		_ = reader.Close()
		// The failure of a fetch for another repository does not mean that a fetch for this one fails.
		if !foreign || attempt == maxAttempts || errors.Is(err, errStored) || ctx.Err() != nil {
			return nil, err
		}
	}
}
