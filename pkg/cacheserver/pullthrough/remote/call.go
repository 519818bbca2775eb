// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/connection"
	"github.com/larder-project/larder/pkg/credentials"
)

// call describes one request to the upstream's API.
type call struct {
	kind       string
	method     string
	repository string
	path       string // below /v2/<repository>/, or below /v2/ without a repository
	query      url.Values
	header     http.Header
}

const apiRoot = "/v2/"

// manifests and blobs are prefixes of paths below a repository.
const manifests, blobs = "manifests/", "blobs/"

// These are the kinds of requests, which HEAD requests add the suffix to.
const (
	kindPing, kindList     = "ping", "list"
	kindManifest, kindBlob = "manifest", "blob"
	headSuffix             = "_head"
)

func (c call) target() string {
	if c.repository == "" {
		return apiRoot + c.path
	}
	return apiRoot + c.repository + "/" + c.path
}

// url returns the URL of a path of the upstream's API.
func (c *Client) url(path string, query url.Values) string {
	target := *c.base
	target.Path, target.RawQuery = path, query.Encode()
	return target.String()
}

// do makes a call with the credential for its repository, and returns a successful response. The caller closes its
// body.
func (c *Client) do(ctx context.Context, call call) (*http.Response, error) {
	scope, credential, err := c.credentialFor(ctx, call.repository)
	if err != nil {
		err = c.withoutCredential(ctx, err)
		if !Is(err, Unauthorized) {
			return nil, err
		}
		if resp, tried, err := c.asGuest(ctx, call); tried {
			return resp, err
		}
		c.reject(call)
		return nil, err
	}
	byGuest := c.payingGuests(scope, credential, call.repository)
	if byGuest {
		if resp, tried, err := c.asGuest(ctx, call); tried && !Is(err, Unauthorized) {
			return resp, err
		}
	}
	resp, err := c.attempt(ctx, call, scope, credential)
	switch {
	case err == nil:
		c.denied.forget(scope, call.repository)
		if strings.HasPrefix(call.path, manifests) {
			c.pulled.note(scope, call)
		}
	case Is(err, NotFound) && !byGuest && !c.pulled.has(scope, call.repository):
		// The upstream may hide the repository from the cache's own credential.
		if resp, tried, err := c.asGuest(ctx, call); tried && err == nil {
			c.noteDenied(scope, call)
			return resp, nil
		}
	case Is(err, Unauthorized):
		c.noteDenied(scope, call)
		if !byGuest {
			if resp, tried, err := c.asGuest(ctx, call); tried && !Is(err, Unauthorized) {
				return resp, err
			}
		}
		if c.guestList != nil && credential == (credentials.Credential{}) {
			c.guestList.Rejected(call.repository, credential)
		}
		c.reject(call)
	}
	return resp, err
}

// noteDenied remembers that the upstream does not serve an object to the cache's own credential.
func (c *Client) noteDenied(scope string, call call) {
	if strings.HasPrefix(call.path, manifests) || strings.HasPrefix(call.path, blobs) {
		c.denied.note(scope, call)
	}
}

// withoutCredential is the error of a call for which there is no credential.
func (c *Client) withoutCredential(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Cause(ctx)
	case isTemporary(err):
		return c.fail(Unavailable, 0, "no credential could be issued")
	}
	return c.fail(Unauthorized, 0, "cannot read the credential")
}

// isTemporary reports whether Credentials may have a credential later, as when the service that issues it is down. That
// is no rejected credential.
func isTemporary(err error) bool {
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}

// reject reports that the upstream rejected the credential for a call.
func (c *Client) reject(call call) {
	if c.rejected != nil {
		c.rejected(call.repository)
	}
}

// attempt makes a call with a credential, and as long as the upstream rejects that, with others.
func (c *Client) attempt(ctx context.Context, call call, scope string, credential credentials.Credential) (*http.Response, error) {
	s := c.sessions.get(scope, credential)
	resp, err := c.try(ctx, call, s)
	renewer, ok := c.credentials.(Renewer)
	if !ok {
		return resp, err
	}
	var rejected []credentials.Credential
	for Is(err, Unauthorized) && len(rejected) < maxRejected {
		rejected = append(rejected, s.credential)
		other, ok := renewer.Renew(ctx, rejected)
		if !ok {
			return resp, err
		}
		s = c.sessions.get(scope, other)
		resp, err = c.try(ctx, call, s)
	}
	if err == nil && (s.accepted.CompareAndSwap(false, true) || len(rejected) > 0) {
		renewer.Accepted(s.credential, rejected)
	}
	return resp, err
}

// maxRejected bounds the credentials that one call is made with: those in use before, now and next, and one to spare.
const maxRejected = 4

func (c *Client) credentialFor(ctx context.Context, repository string) (string, credentials.Credential, error) {
	if c.credentials == nil {
		return "", credentials.Credential{}, nil
	}
	return c.credentials.For(ctx, repository)
}

// try makes a call within a session. If the upstream refuses HEAD, it uses GET.
func (c *Client) try(ctx context.Context, call call, s *session) (*http.Response, error) {
	if call.method != http.MethodHead {
		return c.send(ctx, call, s)
	}
	if c.headless.has(call.kind, c.now()) {
		return c.send(ctx, call.asGet(), s)
	}
	resp, err := c.send(ctx, call, s)
	if err == nil {
		c.headless.dismiss(call.kind)
		return resp, nil
	}
	var refusal *Error
	if !errors.As(err, &refusal) || !ofMethod(refusal) {
		return nil, err
	}
	resp, err = c.send(ctx, call.asGet(), s)
	switch {
	case err != nil:
	case isTransient(refusal):
		c.headless.suspect(call.kind, c.now())
	default:
		c.headless.note(call.kind, c.now())
	}
	return resp, err
}

// send makes one request, including tokens and redirects.
func (c *Client) send(ctx context.Context, call call, s *session) (*http.Response, error) {
	info := requestInfo{call: call, session: s}
	if left := s.limiter.wait(info); left > 0 {
		return nil, c.rateLimited(left)
	}
	ctx = context.WithValue(ctx, requestKey{}, info)
	req, err := http.NewRequestWithContext(ctx, call.method, c.url(call.target(), call.query), nil)
	if err != nil {
		return nil, c.fail(Invalid, 0, "invalid request")
	}
	for name, values := range call.header {
		req.Header[name] = values
	}
	resp, err := s.http.Do(c.introduce(req))
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.refusal(resp, s)
}

// explain turns the error of an HTTP client into an Error. It must not quote the original, which may contain signed
// URLs.
func (c *Client) explain(ctx context.Context, err error) error {
	var explained *Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Cause(ctx)
	case errors.As(err, &explained):
		return explained
	}
	explained = c.fail(Unavailable, 0, causeOf(err))
	for _, own := range []error{errRedirect, errAddress, syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL} {
		explained.local = explained.local || errors.Is(err, own)
	}
	explained.brokeOff = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
	if errors.Is(err, errRealm) {
		explained.Reason = Unauthorized
	}
	var failed *url.Error
	if errors.As(err, &failed) && !isTokenRequest(ctx) {
		if target, err := url.Parse(failed.URL); err == nil && !c.guard.own(target) {
			return at("redirected to "+target.Host, explained)
		}
	}
	return explained
}

// causeOf describes the error of an HTTP client.
func causeOf(err error) string {
	var timeout net.Error
	var operation *net.OpError
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var proxy *connection.ProxyError
	switch {
	case errors.As(err, &proxy):
		return proxy.Error()
	case errors.Is(err, errRealm):
		return errRealm.Error()
	case errors.Is(err, errRedirect):
		return errRedirect.Error()
	case errors.Is(err, errAddress):
		return errAddress.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no response in time"
	case errors.As(err, &certificate):
		return fmt.Sprintf("untrusted certificate: %v", certificate.Err)
	case errors.As(err, &name):
		return "cannot resolve the host name"
	case errors.As(err, &operation):
		return fmt.Sprintf("%s: %v", operation.Op, operation.Err)
	}
	return "request failed: " + innermost(err)
}

// innermost returns the text of the innermost error, below those that quote URLs.
func innermost(err error) string {
	for {
		var outer *url.Error
		if !errors.As(err, &outer) {
			break
		}
		err = outer.Err
	}
	text := err.Error()
	if strings.Contains(text, "://") {
		return "see the metrics of upstream requests"
	}
	return text
}

const maxErrorBody = 8 << 10

// refusal turns an unsuccessful response into an Error.
func (c *Client) refusal(resp *http.Response, s *session) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	cause := fmt.Sprintf("status %d", resp.StatusCode)
	if code := parseErrorCode(decoded(resp, body, maxErrorBody)); code != "" {
		cause += " " + code
	}
	elsewhere := !c.guard.own(resp.Request.URL)
	var err *Error
	switch status := resp.StatusCode; {
	case status == http.StatusNotFound:
		err = c.fail(NotFound, status, cause)
	case status == http.StatusTooManyRequests:
		err = c.rateLimited(parseRetryAfter(resp.Header.Get("Retry-After"), c.now()))
	case elsewhere:
		err = c.fail(Unavailable, status, cause) // That server did not see the credential.
	case status == http.StatusUnauthorized && s.credential == (credentials.Credential{}):
		err = c.fail(Unauthorized, status, cause+": it requires a credential, and none is configured")
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		err = c.fail(Unauthorized, status, cause)
	default:
		err = c.fail(Unavailable, status, cause)
	}
	if elsewhere {
		return at("redirected to "+resp.Request.URL.Host, err)
	}
	err.Login = strings.HasPrefix(resp.Request.Header.Get("Authorization"), "Basic ")
	return err
}

func (c *Client) rateLimited(left time.Duration) *Error {
	return &Error{
		Reason: RateLimited, Status: http.StatusTooManyRequests, RetryAfter: left, Host: c.base.Host,
		Cause: "rate limit exceeded",
	}
}

func (c *Client) fail(reason Reason, status int, cause string) *Error {
	return &Error{Reason: reason, Status: status, Host: c.base.Host, Cause: cause}
}
