// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package connection connects to the servers of an upstream: it decides which certificates to trust, which client
// certificate to present, and which proxy to use.
//
// What comes from a Secret is in files, which may change at any time. A Transport reads them again, and uses new content
// for new requests; requests that are running keep their connections. It ignores content that it cannot use, and keeps
// the previous one.
//
// The client certificate is presented only for requests that WithIdentity marks. All others use connections of their
// own, since TLS proves an identity once for a connection, not for each request.
package connection

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// checkInterval is how often files are read again, at most. Kubelets take a minute to write them.
	checkInterval = time.Second
	// expiresSoon is how long before the expiry of a client certificate the server warns, every warnInterval.
	expiresSoon  = 30 * 24 * time.Hour
	warnInterval = 24 * time.Hour
)

// Options describe how to connect.
type Options struct {
	Files Files
	// Connect bounds a TCP connection, and its TLS handshake once more.
	Connect time.Duration
	// FirstByte bounds the wait for the header of a response.
	FirstByte time.Duration
	// KeepAlive is the interval of probes of idle connections.
	KeepAlive time.Duration
	// Control checks the resolved address of each connection; nil accepts all.
	Control func(network, address string, connection syscall.RawConn) error
	// Log may be nil.
	Log logrus.FieldLogger
}

// Transport is an http.RoundTripper that follows its files.
type Transport struct {
	options Options
	current atomic.Pointer[generation]

	// checking guards the fields below. A request that does not get it uses the current generation.
	checking sync.Mutex
	checked  time.Time
	warned   time.Time
	// problem is the last one that was logged, so that it is logged once.
	problem string
}

type identityKey struct{}

// WithIdentity marks a request for which the client certificate may be presented.
func WithIdentity(ctx context.Context) context.Context {
	return context.WithValue(ctx, identityKey{}, true)
}

func hasIdentity(ctx context.Context) bool { return ctx.Value(identityKey{}) != nil }

// New returns a transport. It returns an error if a file cannot be used now.
func New(o Options) (*Transport, error) {
	if o.Log == nil {
		discard := logrus.New()
		discard.SetLevel(logrus.PanicLevel)
		o.Log = discard
	}
	content, err := o.Files.read()
	if err != nil {
		return nil, err
	}
	first, err := newGeneration(o, content)
	if err != nil {
		return nil, err
	}
	t := &Transport{options: o, checked: time.Now()}
	t.current.Store(first)
	t.warn(t.checked)
	return t, nil
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.check()
	return t.current.Load().roundTrip(req)
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (t *Transport) CloseIdleConnections() { t.current.Load().closeIdle() }

// check reads the files again if that is due.
func (t *Transport) check() {
	if t.options.Files == (Files{}) || !t.checking.TryLock() {
		return
	}
	defer t.checking.Unlock()
	if now := time.Now(); now.Sub(t.checked) >= checkInterval {
		t.checked = now
		t.reload()
		t.warn(now)
	}
}

// warn logs that the client certificate has to be replaced, if that is due.
func (t *Transport) warn(now time.Time) {
	expires := t.current.Load().expires
	if expires.IsZero() || expires.Sub(now) >= expiresSoon || now.Sub(t.warned) < warnInterval {
		return
	}
	t.warned = now
	t.options.Log.WithField("expires", expires.UTC().Format(time.RFC3339)).Warn("Client certificate expires soon or has expired")
}

// reload replaces the current generation if the files have changed and can be used.
func (t *Transport) reload() {
	content, err := t.options.Files.read()
	if err == nil && content == t.current.Load().content {
		t.problem = ""
		return
	}
	var next *generation
	if err == nil {
		next, err = newGeneration(t.options, content)
	}
	if err != nil {
		if t.problem != err.Error() {
			t.problem = err.Error()
			t.options.Log.WithError(err).Error("Ignored changed files for connections to the upstream")
		}
		return
	}
	t.problem, t.warned = "", time.Time{}
	t.current.Swap(next).closeIdle()
	t.options.Log.Info("Using changed files for connections to the upstream")
}
