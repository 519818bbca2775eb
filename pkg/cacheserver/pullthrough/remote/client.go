// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/connection"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/upstream"
)

// Timeouts bound the waits for an upstream.
type Timeouts struct {
	// Connect bounds a TCP connection, and its TLS handshake once more.
	Connect time.Duration
	// FirstByte bounds the wait for the header of a response.
	FirstByte time.Duration
	// Idle bounds the wait for the next bytes of a body.
	Idle time.Duration
	// MinRate is the least bytes per second of a body, averaged over a minute, so that a trickle ends; 0 is no minimum.
	MinRate int64
}

// DefaultTimeouts let clients fall back to another server within seconds, not minutes.
var DefaultTimeouts = Timeouts{Connect: 3 * time.Second, FirstByte: 10 * time.Second, Idle: 30 * time.Second, MinRate: 1 << 10}

// small bounds a request whose response is small, including its token and redirects: one of its responses may take as
// long as FirstByte allows.
func (t Timeouts) small() time.Duration {
	return max(30*time.Second, t.FirstByte+20*time.Second)
}

// Options describe an upstream.
type Options struct {
	// URL is http(s)://host[:port].
	URL string
	// Credentials hand out what to present; nil means anonymous access.
	Credentials Credentials
	// Rejected is called when the upstream rejects the credential for a repository; may be nil. It must not block.
	Rejected func(repository string)
	// Guests may pay for requests that Credentials cannot make; nil means that there are none.
	Guests Guests
	// Connection has the files with trusted certificates, the client certificate and the credential for proxies.
	Connection connection.Files
	// AllowedRealms are additional hosts, with or without a port, of token services that may see the credential.
	AllowedRealms []string
	Timeouts      Timeouts
	Observer      Observer
	// UserAgent identifies the cache to the upstream.
	UserAgent string
	// Now returns the time; nil means time.Now.
	Now func() time.Time
	// Log may be nil.
	Log logrus.FieldLogger
	// Transport sends the requests that pass the guard; nil means one with the timeouts and the files above.
	Transport http.RoundTripper
}

// Client is a Registry that is reached by HTTP.
type Client struct {
	base        *url.URL
	credentials Credentials
	rejected    func(repository string)
	timeouts    Timeouts
	observer    Observer
	now         func() time.Time
	userAgent   string

	guard *guard
	// tokens sends requests to token services.
	tokens    *http.Client
	sessions  *sessions
	guests    *guestSessions
	guestList Guests
	// pulled are requests that succeeded recently, denied those that were rejected.
	pulled, denied *evidence
	health         *health
	budgets        *budgets
	// headless upstreams refuse HEAD. Mislabelling ones send wrong digests in headers.
	headless, mislabels quirk
	coded               *misjudged
	memory              *semaphore.Weighted
}

var _ Registry = (*Client)(nil)

// New returns a client. It makes no request.
func New(o Options) (*Client, error) {
	parsed, err := upstream.ParseURL(o.URL)
	if err != nil {
		return nil, fmt.Errorf("remote URL: %w", err)
	}
	base := &url.URL{Scheme: parsed.Scheme, Host: parsed.Host()}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Transport == nil {
		if o.Transport, err = NewTransport(o); err != nil {
			return nil, err
		}
	}
	c := &Client{
		base: base, credentials: o.Credentials, rejected: o.Rejected, timeouts: o.Timeouts, observer: o.Observer, now: o.Now, userAgent: o.UserAgent,
		pulled:  newEvidence(),
		denied:  newEvidence(),
		health:  &health{now: o.Now, observer: o.Observer},
		budgets: newBudgets(o.Now, o.Observer),
		guests:  newGuestSessions(), guestList: o.Guests,
		coded:  newMisjudged(),
		memory: semaphore.NewWeighted(maxReading),
	}
	c.guard = &guard{base: base, realms: o.AllowedRealms, next: o.Transport, watch: c.watch}
	c.tokens = &http.Client{Transport: c.guard, CheckRedirect: checkRedirect}
	c.sessions = &sessions{open: c.openSession, byScope: newLRU[string, []*session](maxSessions)}
	return c, nil
}

// NewTransport returns the transport of a client with the same options, for the services that issue its credentials.
func NewTransport(o Options) (http.RoundTripper, error) {
	return connection.New(connection.Options{
		Files: o.Connection, Connect: o.Timeouts.Connect, FirstByte: o.Timeouts.FirstByte, KeepAlive: o.Timeouts.Idle,
		Control: checkDial, Log: o.Log,
	})
}

func (c *Client) openSession(scope string, credential credentials.Credential) *session {
	a := newAuthenticator(c, credential)
	return &session{
		scope: scope, credential: credential, auth: a, limiter: newLimiter(c.now),
		http: &http.Client{Transport: a, CheckRedirect: checkRedirect},
	}
}

// introduce sets the headers that all requests have in common.
func (c *Client) introduce(req *http.Request) *http.Request {
	if c.userAgent != "" {
		req.Header.Set("User-Agent", c.userAgent)
	}
	req.Header.Set("Accept-Encoding", "identity")
	return req
}

// Healthy implements Registry.
func (c *Client) Healthy() bool { return c.health.healthy() }

// Probe implements Registry.
func (c *Client) Probe() bool { return c.health.probe() }

// Close closes idle connections.
func (c *Client) Close() { c.tokens.CloseIdleConnections() }

type requestKey struct{}

// requestInfo describes a request. It travels in the context, through the HTTP client.
type requestInfo struct {
	call
	session *session
}

func infoOf(ctx context.Context) requestInfo {
	info, _ := ctx.Value(requestKey{}).(requestInfo)
	return info
}

// watch observes every request: to the API, for tokens, and those that follow redirects.
func (c *Client) watch(req *http.Request, resp *http.Response, err error, took time.Duration) {
	info := infoOf(req.Context())
	kind := info.kind
	switch {
	case isTokenRequest(req.Context()):
		kind = "token"
	case req.Response != nil:
		kind = "redirect"
	}
	// A failure of a storage or token service is none of the API.
	api := kind == info.kind
	if err != nil {
		c.observer.Request(kind, 0, took)
		// A cancelled request proves nothing about the upstream, unlike one that timed out.
		if api && !errors.Is(req.Context().Err(), context.Canceled) {
			c.health.failure(info.call, "", causeOf(err))
		}
		return
	}
	c.observer.Request(kind, resp.StatusCode, took)
	// The target of a redirect to another host does not see the credential, so its rate limits are not those of the
	// session.
	if info.session != nil && (req.Response == nil || c.guard.own(req.URL)) {
		c.noteLimits(info, resp, isTokenRequest(req.Context()))
	}
	switch {
	case !api:
	case isGatewayError(resp.StatusCode):
		c.health.failure(info.call, info.repository, fmt.Sprintf("status %d", resp.StatusCode))
	default:
		c.health.success(info.call)
	}
}

// noteLimits records the rate limits of a session.
func (c *Client) noteLimits(info requestInfo, resp *http.Response, ofToken bool) {
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		info.session.limiter.block(info, resp)
	case resp.StatusCode < http.StatusInternalServerError && resp.StatusCode != http.StatusUnauthorized && !ofToken:
		info.session.limiter.passed(info) // A 404 or 403 met no limit, just like a success.
	}
	if info.session.check {
		return // The metrics are about the active credential.
	}
	c.budgets.note(info.session.scope, resp.Header)
}

// isGatewayError reports whether a status is that of a proxy whose registry does not respond. Any other status comes
// from the registry itself, even if it signals a fault.
func isGatewayError(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}
