// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/larder-project/larder/pkg/credentials"
)

// Timeouts bound the waits for an upstream.
type Timeouts struct {
	// Connect bounds a TCP connection, and its TLS handshake once more.
	Connect time.Duration
	// FirstByte bounds the wait for the header of an answer.
	FirstByte time.Duration
	// Idle bounds the wait for the next bytes of a body.
	Idle time.Duration
	// MinRate is how many bytes a second a body has to bring on the average of a minute, so that one that trickles is not
	// waited for without an end; 0 is no minimum.
	MinRate int64
}

// DefaultTimeouts are those of a server that gives way to others in seconds, not minutes.
var DefaultTimeouts = Timeouts{Connect: 3 * time.Second, FirstByte: 10 * time.Second, Idle: 30 * time.Second, MinRate: 1 << 10}

// smallAnswer bounds the whole of a request whose answer is small, with its token and redirects.
const smallAnswer = 30 * time.Second

// Options describe an upstream.
type Options struct {
	// URL is http(s)://host[:port].
	URL string
	// Credentials to present; nil for none.
	Credentials Credentials
	// Refused is called when the upstream refuses a credential; may be nil. It must not block.
	Refused func()
	// CABundle is a file with further trusted certificates; may be empty.
	CABundle string
	// AllowedRealms are hosts, with or without a port, where tokens may be asked for besides the usual places.
	AllowedRealms []string
	Timeouts      Timeouts
	Observer      Observer
	// UserAgent names the cache to the upstream.
	UserAgent string
	// Now is the time; nil for the clock.
	Now func() time.Time
	// Transport is the way to the network; nil for one with the timeouts and the CA bundle above. It does not see
	// requests that the guard refuses.
	Transport http.RoundTripper
}

// Client is a Registry at the other end of HTTP.
type Client struct {
	base        *url.URL
	credentials Credentials
	refused     func()
	timeouts    Timeouts
	observer    Observer
	now         func() time.Time
	userAgent   string

	guard *guard
	// tokens asks token services.
	tokens   *http.Client
	sessions *sessions
	pulled   *evidence
	denied   *evidence
	health   *health
	limiter  *limiter
	// headless upstreams refuse HEAD. Mislabelling ones tell wrong digests in headers.
	headless, mislabels quirk
	coded               misjudged
	memory              *semaphore.Weighted
}

var _ Registry = (*Client)(nil)

// New returns a client. It makes no request.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("remote URL is not a URL") // url.Parse quotes its input, which may hold a password.
	case base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.User != nil:
		return nil, fmt.Errorf("remote URL must be http(s)://host[:port]")
	case strings.Trim(base.Path, "/") != "" || base.RawQuery != "" || base.Fragment != "":
		return nil, fmt.Errorf("remote URL must be http(s)://host[:port] without a path; the API of a registry is at /v2/ of its host")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Transport == nil {
		if o.Transport, err = newTransport(o.CABundle, o.Timeouts); err != nil {
			return nil, err
		}
	}
	c := &Client{
		base: base, credentials: o.Credentials, refused: o.Refused, timeouts: o.Timeouts, observer: o.Observer, now: o.Now, userAgent: o.UserAgent,
		pulled:  &evidence{},
		denied:  &evidence{},
		health:  &health{now: o.Now, observer: o.Observer},
		limiter: newLimiter(o.Now),
		memory:  semaphore.NewWeighted(maxReading),
	}
	c.guard = &guard{base: base, realms: o.AllowedRealms, next: o.Transport, watch: c.watch}
	c.tokens = &http.Client{Transport: c.guard, CheckRedirect: checkRedirect}
	c.sessions = &sessions{open: c.openSession, drop: c.limiter.forget, now: o.Now, scopes: map[string]*scope{}}
	return c, nil
}

// newTransport returns a transport for HTTP/1.1: each fetch has a connection of its own, so that a slow or broken one
// holds up no other.
func newTransport(caBundle string, timeouts Timeouts) (*http.Transport, error) {
	roots, err := trusted(caBundle)
	if err != nil {
		return nil, err
	}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: timeouts.Connect, KeepAlive: timeouts.Idle, Control: checkDial}).DialContext,
		TLSHandshakeTimeout: timeouts.Connect,
		TLSClientConfig: &tls.Config{
			RootCAs: roots, MinVersion: tls.VersionTLS12,
			ClientSessionCache: tls.NewLRUClientSessionCache(0), // Each layer that is fetched may take a connection.
		},
		ResponseHeaderTimeout:  timeouts.FirstByte,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // A digest is that of the bytes as they are.
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        90 * time.Second,
		ReadBufferSize:         32 << 10,
		ForceAttemptHTTP2:      false,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{},
	}, nil
}

func trusted(caBundle string) (*x509.CertPool, error) {
	if caBundle == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(caBundle)
	if err != nil {
		return nil, fmt.Errorf("reading the CA bundle: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA bundle %s holds no certificate", caBundle)
	}
	return roots, nil
}

func (c *Client) openSession(scope string, credential credentials.Credential) *session {
	a := newAuthenticator(c, credential)
	return &session{
		scope: scope, credential: credential, auth: a,
		http: &http.Client{Transport: a, CheckRedirect: checkRedirect},
	}
}

// introduce sets the headers of all requests.
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

// Close lets go of idle connections.
func (c *Client) Close() { c.tokens.CloseIdleConnections() }

type requestKey struct{}

// requestInfo goes along with a request in its context, through the client library.
type requestInfo struct {
	kind       string
	repository string
	session    *session
}

func infoOf(ctx context.Context) requestInfo {
	info, _ := ctx.Value(requestKey{}).(requestInfo)
	return info
}

// watch sees every single request: those to the API, for tokens, and those that redirects lead to.
func (c *Client) watch(req *http.Request, resp *http.Response, err error, took time.Duration) {
	info := infoOf(req.Context())
	kind := info.kind
	switch {
	case isTokenRequest(req.Context()):
		kind = "token"
	case req.Response != nil:
		kind = "redirect"
	}
	// Storage and token services can be down without the API, and then say nothing about it.
	api := kind == info.kind
	if err != nil {
		c.observer.Request(kind, 0, took)
		// A caller that gives up says nothing about the upstream, unless its patience was at an end.
		if api && !errors.Is(req.Context().Err(), context.Canceled) {
			c.health.failure("")
		}
		return
	}
	c.observer.Request(kind, resp.StatusCode, took)
	// What a redirect leads to elsewhere does not know the credential, and limits it no more than others.
	if info.session != nil && (req.Response == nil || c.guard.own(req.URL)) {
		c.noteLimits(info, resp, isTokenRequest(req.Context()))
	}
	switch {
	case !api:
	case isGatewayError(resp.StatusCode):
		c.health.failure(info.repository)
	default:
		c.health.success()
	}
}

// noteLimits takes into account what the upstream says about the rate limits of a credential.
func (c *Client) noteLimits(info requestInfo, resp *http.Response, ofToken bool) {
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		c.limiter.block(info, resp)
	case resp.StatusCode < http.StatusInternalServerError && resp.StatusCode != http.StatusUnauthorized && !ofToken:
		c.limiter.passed(info) // A 404 or 403 shows as well that no limit holds.
	}
	if info.session.trial {
		return // What is left to a credential on trial is nothing of those in use.
	}
	limit, ok := parseLimit(resp.Header.Get("RateLimit-Limit"))
	remaining, known := parseLimit(resp.Header.Get("RateLimit-Remaining"))
	if ok && known {
		c.observer.Budget(info.session.scope, limit, remaining)
	}
}

// isGatewayError reports whether a status is that of a proxy whose registry does not answer. Any other comes from a
// registry that does, if only to tell of a fault.
func isGatewayError(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}
