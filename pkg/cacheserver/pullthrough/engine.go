// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package pullthrough is the engine of the cache: it serves what Distribution's storage holds, and fetches what it
// lacks, once for any number of clients.
//
// It is a registry middleware for Distribution, whose HTTP API, routing, access control, health checks, logging and
// configuration stay as they are. FromConfiguration starts an Engine from a configuration and removes the proxy
// section, so that Distribution does not start its own proxy. Engine.Handler wraps the application.
//
// This package is Distribution's side of the engine, and the wiring. Each service lives in a package of its own, with
// its dependencies handed in, and imports point down:
//
//	pullthrough   middleware, configuration, HTTP handler; Engine wires the services
//	access        decides which clients may read what
//	tags          resolves and lists tags
//	manifests     manifests from memory, the store or the upstream
//	blobs         blobs from a file or a transfer
//	referrers     lists the referrers of a manifest
//	content       the only access to store, index and retention
//	source        the upstream, bounded and timed; its client is package remote, which connects through connection
//	response      the client's side of a request
//	transfer      a blob that readers follow while it arrives
//	coalesce      shared results of concurrent requests
//	volume        finds out whether the volume hangs
package pullthrough

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"k8s.io/utils/clock"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/access"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/blobs"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/content"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/journal"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/keyring"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifests"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/referrers"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/retention"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/route"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/source"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/tags"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/volume"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/issuer"
	"github.com/larder-project/larder/pkg/limit"
	"github.com/larder-project/larder/pkg/upstream"
)

// maxParsing is how many manifests and lists are parsed at a time. Parsing takes a multiple of a document's size, so
// this bounds memory.
const maxParsing = 4

// Engine is one cache: a directory and an upstream. Engines share nothing but the metrics of the process.
type Engine struct {
	options Options
	host    string
	log     logrus.FieldLogger
	metrics *metrics.Metrics
	journal *journal.Journal

	// gate is nil if every client may read everything.
	gate *access.Gate
	// guests are nil unless clients present credentials for the upstream.
	guests *access.Guests
	// client is nil with an injected Upstream.
	client    *remote.Client
	content   *content.Content
	source    *source.Source
	tags      *tags.Service
	manifests *manifests.Service
	blobs     *blobs.Service
	referrers *referrers.Service
	// credentials is nil with a credential helper or an injected Upstream, whose credentials the engine does not check.
	credentials *keyring.Keyring
	// routes have the credentials for some repositories, in the order of the options.
	routes []keyring.Route

	// volume is watched for calls that do not return.
	volume    *volume.Monitor
	lastUsage atomic.Pointer[content.Usage]

	cancel     context.CancelFunc
	background sync.WaitGroup
	closing    sync.Once
}

// New starts an engine. It does not contact the upstream, and takes the same time however much the cache holds.
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
	base, err := upstream.ParseURL(o.RemoteURL)
	if err != nil {
		return nil, fmt.Errorf("remote URL: %w", err)
	}
	host := base.Host()
	e := &Engine{
		options: o, host: host, log: o.Log.WithField("upstream", host), metrics: o.Metrics, volume: volume.New(o.maxHang()),
	}
	if o.Access.Mode == access.PullSecrets {
		e.guests = access.NewGuests()
	}
	registry, checker := o.Upstream, keyring.Checker(nil)
	if registry == nil {
		if e.client, err = e.connect(host); err != nil {
			return nil, err
		}
		registry, checker = e.client, e.client
	}
	transfers := transfer.NewGroup(o.GracePeriod, e.volume.Hanging)
	e.content, err = content.Open(content.Options{
		RootDirectory: o.RootDirectory, Disk: o.Disk, Volume: e.volume, Busy: transfers.Active, Metrics: o.Metrics, Log: e.log, Now: o.Now,
		Retention: retention.Options{
			TTL: o.TTL, High: o.HighWatermark, Low: o.LowWatermark, ScrubInterval: o.ScrubInterval, ScrubRate: o.ScrubRate,
		},
	})
	if err != nil {
		return nil, err
	}
	e.journal = journal.New(journal.Options{Removed: e.content.Removed, Metrics: o.Metrics, Log: e.logEvent})
	e.wire(registry, host, transfers)
	if o.Access.Mode != access.Cluster {
		e.metrics.Repositories.Hide() // Readers of the metrics may not be allowed to know the repositories.
		if e.gate, err = e.newGate(); err != nil {
			return nil, errors.Join(err, e.content.Close())
		}
	}
	e.start(checker)
	return e, nil
}

// newGate returns the gate of a mode other than Cluster. Its metrics exist only there.
func (e *Engine) newGate() (*access.Gate, error) {
	o := access.Dependencies{
		Health: e.source, Guests: e.guests, Owns: e.owns, Observe: e.metrics.Access(access.Results),
		MaxWait: e.options.Timeouts.FirstByte, Log: e.log, Now: e.options.Now,
	}
	if e.client != nil {
		o.Upstream = e.client
	}
	return access.New(e.options.Access, o)
}

// owns reports whether a manifest or blob is known to be part of a repository for all clients of the repository. While
// the volume hangs, only what is in memory counts, so that the gate does not wait for the volume.
func (e *Engine) owns(kind, repository string, d digest.Digest) bool {
	look := e.content.IsLinked
	if kind != route.Blob {
		if m, ok := e.manifests.Recent(repository, d); ok && !m.Apart {
			return true
		}
		look = e.content.OwnsManifest
	}
	hanging := e.volume.Hanging()
	if e.volume.Hangs() || d.Validate() != nil {
		return false
	}
	owned := make(chan bool, 1)
	go func() { owned <- look(repository, d) }()
	select {
	case found := <-owned:
		return found
	case <-hanging:
		return false
	}
}

// wire hands each service what it depends on.
func (e *Engine) wire(registry remote.Registry, host string, transfers *transfer.Group) {
	o := e.options
	parsing := limit.New(maxParsing)
	e.source = source.New(source.Options{
		Registry: registry, Host: host, MaxWait: o.Timeouts.FirstByte,
		ValidationTimeout: o.ValidationTimeout, SuspectTimeout: o.SuspectTimeout, Parsing: parsing,
	})
	var apart func(context.Context) bool
	if o.Access.Mode == access.PullSecrets || o.Access.AccountsFile != "" {
		apart = access.Apart // Not all clients may read the same repositories.
	}
	e.manifests = manifests.New(manifests.Options{
		Content: e.content, Source: e.source, Parsing: parsing, Apart: apart, Metrics: e.metrics, Log: e.log,
	})
	e.tags = tags.New(tags.Options{
		Content: e.content, Source: e.source, Manifests: e.manifests, Freshness: o.Freshness, Parsing: parsing,
		Metrics: e.metrics, Log: e.log, Now: o.Now,
	})
	blobOptions := blobs.Options{
		Content: e.content, Source: e.source, Manifests: e.manifests, Transfers: transfers,
		MaxFetches: o.MaxFetches, Retries: o.Retries, Metrics: e.metrics, Log: e.log, Now: o.Now,
	}
	if apart != nil {
		blobOptions.Proven, blobOptions.Apart = access.Proven, apart
	}
	e.blobs = blobs.New(blobOptions)
	e.referrers = referrers.New(referrers.Options{
		Content: e.content, Source: e.source, Parsing: parsing, Metrics: e.metrics,
	})
}

// start begins the work in the background.
func (e *Engine) start(checker keyring.Checker) {
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	e.background.Go(func() { e.volume.Run(ctx, e.content.Probe, e.volumeChanged) })
	e.background.Go(func() { e.content.Run(ctx) })
	if e.gate != nil {
		e.background.Go(func() { e.gate.Run(ctx) })
	}
	if e.client != nil {
		e.background.Go(func() { e.client.Run(ctx) })
	}
	if e.credentials != nil {
		e.background.Go(func() { e.credentials.Run(ctx, checker) })
	}
	for _, route := range e.routes {
		e.background.Go(func() { route.Keyring.Run(ctx, checker) })
	}
}

// connect returns the client of the upstream, and sets up the credentials that it presents.
func (e *Engine) connect(host string) (*remote.Client, error) {
	o := e.options
	observer := o.Metrics.Upstream(host)
	if o.Access.Mode != access.Cluster {
		labels := map[string]string{"": ""}
		for i, credential := range o.RepositoryCredentials {
			labels[credential.Repositories[0]] = strconv.Itoa(i + 1)
		}
		observer = observer.WithLabels(labels)
	}
	options := remote.Options{
		URL: o.RemoteURL, Connection: o.Connection, AllowedRealms: o.AllowedRealms,
		Timeouts: o.Timeouts, Observer: observer, UserAgent: o.UserAgent, Now: o.Now, Log: e.log,
	}
	if e.guests != nil {
		options.Guests = e.guests
	}
	var err error
	if options.Transport, err = remote.NewTransport(options); err != nil {
		return nil, err
	}
	if o.Command != "" && o.CredentialsDirectory == "" {
		// A credential helper issues short-lived credentials that need no check before they replace the previous one.
		options.Credentials = &keyring.Exec{
			Command: o.Command, Host: host, Lifetime: o.CommandLifetime, Log: e.log,
		}
	} else {
		issuers := issuers(host, options.Transport)
		newKeyring := func(scope string, source keyring.Source, log logrus.FieldLogger) *keyring.Keyring {
			return keyring.New(keyring.Options{
				Source: source, Clock: clock.RealClock{}, Log: log, Issuers: issuers,
				Observe: func(s keyring.Snapshot) {
					observer.Credential(scope, metrics.Credential{
						Rejected: s.Rejected, ActiveSince: s.ActiveSince, PendingSince: s.PendingSince, Expiry: s.Expiry,
					})
				},
			})
		}
		e.credentials = newKeyring("", o.credentials(host), e.log)
		for _, credential := range o.RepositoryCredentials {
			source := keyring.Directory(credential.Directory, credential.Prefix, host)
			scope := credential.Repositories[0]
			e.routes = append(e.routes, keyring.Route{
				Keyring: newKeyring(scope, source, e.log.WithField("repository", scope)), Repositories: credential.Repositories,
			})
		}
		router := keyring.NewRouter(e.credentials, e.routes)
		options.Credentials, options.Rejected = router, router.Rejected
	}
	return remote.New(options)
}

// issuers returns the issuers of credentials for the registry at a host[:port]. They reach the services of clouds as the
// cache reaches its upstream, but without the client certificate.
func issuers(host string, transport http.RoundTripper) keyring.Issuers {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	client := &http.Client{Transport: transport}
	return func(material credentials.Material) (issuer.Issuer, error) { return issuer.New(material, host, client) }
}

// Credentials returns the state of the credentials, or nil if the upstream is used anonymously or through a credential
// helper.
func (e *Engine) Credentials() *credentials.Report {
	if e == nil || e.credentials == nil {
		return nil
	}
	return e.credentials.Report()
}

// logEvent logs an event.
func (e *Engine) logEvent(ev event.Event) {
	switch {
	case e.options.LogEvent != nil:
		e.options.LogEvent(e.host, ev)
	case ev.Outcome.Severe():
		e.log.WithFields(ev.Fields(e.host)).Warn(event.Message)
	default:
		e.log.WithFields(ev.Fields(e.host)).Info(event.Message)
	}
}

// VolumeHangs reports whether the volume does not respond. Meanwhile, the engine serves only what is in memory.
func (e *Engine) VolumeHangs() bool { return e != nil && e.volume.Hangs() }

// volumeChanged is called when the volume begins and ceases to hang.
func (e *Engine) volumeChanged(hangs bool) {
	if !hangs {
		e.log.WithField("stuck", e.volume.Stuck()).Info("The volume responds again")
		return
	}
	e.log.Error("The volume does not respond")
	e.tags.Forget()
	e.manifests.Forget()
	e.blobs.Forget()
	e.referrers.Forget()
}

// RepositoryCredentials returns the states of the credentials for some repositories, by the prefix of their files.
func (e *Engine) RepositoryCredentials() map[string]credentials.Report {
	if e == nil || len(e.routes) == 0 {
		return nil
	}
	reports := make(map[string]credentials.Report, len(e.routes))
	for i, route := range e.routes {
		if report := route.Keyring.Report(); report != nil {
			reports[e.options.RepositoryCredentials[i].Prefix] = *report
		}
	}
	return reports
}

// Close ends all work and waits for its end. Clients that are being served from files are not affected.
func (e *Engine) Close() error {
	var err error
	e.closing.Do(func() {
		e.cancel()
		e.gate.Close()
		e.blobs.Close()
		e.tags.Close()
		e.manifests.Close()
		e.referrers.Close()
		e.background.Wait()
		e.source.Close()
		err = e.content.Close()
	})
	return err
}
