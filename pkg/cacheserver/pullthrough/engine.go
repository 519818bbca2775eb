// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package pullthrough is the engine of the cache: it answers from Distribution's storage what is there, and fetches
// what is not, once for any number of clients.
//
// It is a registry middleware for Distribution, whose HTTP API, routing, access control, health checks, logging and
// configuration stay as they are. FromConfiguration builds an Engine from a configuration file, whose proxy section
// then no longer reaches Distribution; Engine.Handler wraps the application. One pull goes this way:
//
//	tag       -> tags.Get:        ask the upstream (coalesce), else what was stored; fetch the manifest it leads to
//	manifest  -> manifests.Get:   from the store, checked against its digest, else fetched (coalesce)
//	blob      -> blobs.ServeBlob: from the file by sendfile, else by following a transfer (transfer, download)
//
// The packages below each do one thing: store knows the files, transfer streams what is still arriving, coalesce shares
// small answers, upstream and keyring talk to the other registry, index and retention remember and clean up.
//
// # Who may have what
//
// A blob or manifest is served from a repository if that repository links it, or if the upstream says that the
// repository has it; a blob also if an image that the repository links, and that the upstream sent as one, needs it. So
// one repository's content does not leak into another by its digest, and content that several share is fetched once.
//
// # When the disk is full
//
// What does not fit even after eviction streams through a small window in memory and is not stored (see transfer).
// Clients that come together share that fetch; one that comes after the window has moved on begins another. A server
// that starts on a full disk does the same, and has an index as soon as there is room for one.
//
// # When content on disk is wrong
//
// The index remembers the identity of each file that was verified: inode, size and time of change. A file that is not
// as it was is hashed before it is served, or while, if it is large; one that fails is dropped and fetched again. What
// changes without the file system's knowledge is found when a client comes back for the same content (see doubts), else
// by a slow scrubber in the background.
package pullthrough

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"k8s.io/utils/clock"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/keyring"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/retention"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
	"github.com/larder-project/larder/pkg/credentials"
)

// indexFile lies beside Distribution's files, where a stock registry does not look.
const indexFile = "pullthrough/index.db"

// maxReads times the size of the largest manifest is memory that one cache can spare.
const maxReads = 4

// turn waits for a turn, and returns what ends it.
func turn(ctx context.Context, turns chan struct{}) (done func(), err error) {
	select {
	case turns <- struct{}{}:
		return func() { <-turns }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// inTurn does what takes memory in a turn of the reads.
func (e *Engine) inTurn(ctx context.Context, work func() error) error {
	done, err := turn(ctx, e.reads)
	if err != nil {
		return err
	}
	defer done()
	return work()
}

// Engine is one cache: a directory and an upstream. Engines share nothing but the process's metrics.
type Engine struct {
	options  Options
	host     string
	log      logrus.FieldLogger
	now      func() time.Time
	store    *store.Store
	index    *index.Index
	keeper   *retention.Keeper
	metrics  *metrics.Metrics
	upstream *bounded
	// credentials are nil if the upstream gets them from elsewhere; checker checks them.
	credentials *keyring.Keyring
	checker     keyring.Checker

	blobs     *transfer.Group
	resolves  *coalesce.Group[string, digest.Digest]
	moves     *coalesce.Group[string, digest.Digest]
	manifests *coalesce.Group[string, storedManifest]
	sizes     *coalesce.Group[string, int64]
	tagPages  *coalesce.Group[tagQuery, tagPage]
	tagLists  *coalesce.Group[string, []string] // whole ones
	lists     *coalesce.Group[string, []byte]   // of referrers, whole or of one type
	recent    *recentManifests
	fresh     freshTags
	answers   tagAnswers
	known     knownTags
	doubts    doubts
	pace      *pace

	// fetches bounds the downloads at a time, unstored those of them that go through memory. Others are waiting.
	fetches  chan struct{}
	unstored chan struct{}
	waiting  atomic.Int32
	// large bounds the large buffers.
	large chan struct{}
	// reads bounds the manifests that are read from disk, and the manifests and lists that are parsed or encoded, at a time,
	// hashes the files that are verified, listings the whole lists of tags that are put together.
	reads    chan struct{}
	hashes   chan struct{}
	listings chan struct{}

	cancel     context.CancelFunc
	background sync.WaitGroup
	closing    sync.Once
}

// New starts an engine. It does not talk to the upstream, and takes as long whatever the cache holds.
func New(o Options) (*Engine, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = logrus.StandardLogger()
	}
	if o.Metrics == nil {
		o.Metrics = metrics.Process()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	base, err := url.Parse(o.RemoteURL)
	if err != nil {
		return nil, errors.New("remote URL is not a URL")
	}
	e := &Engine{
		options: o, host: base.Host, log: o.Log.WithField("upstream", base.Host), now: o.Now, metrics: o.Metrics,
		blobs:     transfer.NewGroup(o.GracePeriod),
		resolves:  coalesce.New[string, digest.Digest](),
		moves:     coalesce.New[string, digest.Digest](),
		manifests: coalesce.New[string, storedManifest](),
		sizes:     coalesce.New[string, int64](),
		tagPages:  coalesce.New[tagQuery, tagPage](),
		tagLists:  coalesce.New[string, []string](),
		lists:     coalesce.New[string, []byte](),
		recent:    newRecentManifests(recentBytes),
		fresh:     freshTags{window: o.Freshness, tags: map[[2]string]freshTag{}},
		answers:   tagAnswers{tags: map[[2]string]digest.Digest{}},
		known:     knownTags{lists: map[string][]string{}},
		doubts:    doubts{delivered: map[delivery]time.Time{}},
		pace:      &pace{},
		fetches:   make(chan struct{}, o.MaxFetches),
		unstored:  make(chan struct{}, min(o.MaxFetches, maxUnstored)),
		large:     make(chan struct{}, maxLarge),
		reads:     make(chan struct{}, maxReads),
		hashes:    make(chan struct{}, max(2, runtime.GOMAXPROCS(0))),
		listings:  make(chan struct{}, maxListings),
	}
	registry := o.Upstream
	if registry == nil {
		if registry, err = e.connect(base); err != nil {
			return nil, err
		}
	}
	e.upstream = &bounded{
		Registry: registry, turns: make(chan struct{}, maxRequests), longest: o.Timeouts.FirstByte, pace: e.pace,
	}
	if e.store, err = store.Open(o.RootDirectory, o.Disk); err != nil {
		return nil, err
	}
	if e.index, err = index.Open(filepath.Join(o.RootDirectory, indexFile), o.Now); err != nil {
		return nil, fmt.Errorf("index of %s: %w", o.RootDirectory, err)
	}
	e.keep()
	return e, nil
}

// keep starts what goes on in the background.
func (e *Engine) keep() {
	e.keeper = &retention.Keeper{
		Options: retention.Options{
			TTL: e.options.TTL, High: e.options.HighWatermark, Low: e.options.LowWatermark,
			ScrubInterval: e.options.ScrubInterval, ScrubRate: e.options.ScrubRate,
		},
		Store: e.store, Index: e.index, Metrics: e.metrics, Log: e.log, Now: e.now, Busy: e.blobs.Active,
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	e.background.Go(func() { e.keeper.Run(ctx) })
	if e.credentials != nil {
		e.background.Go(func() { e.credentials.Run(ctx, e.checker) })
	}
}

// connect sets up the client of the upstream, and the credentials that it presents.
func (e *Engine) connect(base *url.URL) (remote.Registry, error) {
	o := e.options
	observer := o.Metrics.Upstream(base.Host)
	options := remote.Options{
		URL: o.RemoteURL, CABundle: o.CABundle, AllowedRealms: o.AllowedRealms,
		Timeouts: o.Timeouts, Observer: observer, UserAgent: o.UserAgent, Now: o.Now,
	}
	if o.Command != "" && o.CredentialsDirectory == "" {
		// A command's credentials are short-lived, and each of them as good as the one before.
		options.Credentials = &keyring.Exec{
			Command: o.Command, Host: base.Host, Lifetime: o.CommandLifetime, Log: e.log,
		}
	} else {
		e.credentials = keyring.New(o.credentials(base.Host), clock.RealClock{}, e.log, func(s keyring.Snapshot) {
			observer.Credentials(s.Rejected, s.ActiveSince)
		})
		options.Credentials, options.Rejected = e.credentials, e.credentials.Rejected
	}
	client, err := remote.New(options)
	if err != nil {
		return nil, err
	}
	e.checker = client
	return client, nil
}

// Credentials tells the state of the credentials, nil if there are none, or none whose state could change.
func (e *Engine) Credentials() *credentials.Report {
	if e == nil || e.credentials == nil {
		return nil
	}
	return e.credentials.Report()
}

// Close ends all work and waits for its end. Clients that are being served from files are not affected.
func (e *Engine) Close() error {
	var err error
	e.closing.Do(func() {
		e.cancel()
		e.blobs.Close()
		e.resolves.Close()
		e.moves.Close()
		e.manifests.Close()
		e.sizes.Close()
		e.tagPages.Close()
		e.tagLists.Close()
		e.lists.Close()
		e.background.Wait()
		if closer, ok := e.upstream.Registry.(interface{ Close() }); ok {
			closer.Close()
		}
		err = e.index.Close()
	})
	return err
}
