// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

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
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

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

// Paths of a repository begin with these.
const manifests, blobs = "manifests/", "blobs/"

func (c call) target() string {
	if c.repository == "" {
		return apiRoot + c.path
	}
	return apiRoot + c.repository + "/" + c.path
}

func (c *Client) isAPI(u *url.URL) bool {
	return sameOrigin(u, c.base) && strings.HasPrefix(u.Path, strings.TrimSuffix(c.base.Path, "/")+apiRoot)
}

// do makes a request with the credentials for its repository, the new one first, and returns an answer with a status
// of success. The caller closes its body.
func (c *Client) do(ctx context.Context, call call) (*http.Response, error) {
	resp, err := c.attempt(ctx, call)
	switch {
	case err == nil:
		c.denied.forget(call.repository)
		if strings.HasPrefix(call.path, manifests) {
			c.pulled.note(call)
		}
	case Is(err, Unauthorized):
		if strings.HasPrefix(call.path, manifests) || strings.HasPrefix(call.path, blobs) {
			c.denied.note(call)
		}
		if c.refused != nil {
			c.refused()
		}
	}
	return resp, err
}

func (c *Client) attempt(ctx context.Context, call call) (*http.Response, error) {
	name, credential, err := c.credentialFor(ctx, call.repository)
	switch {
	case err != nil && errors.Is(ctx.Err(), context.Canceled):
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, c.fail(Unauthorized, 0, "the credential cannot be read")
	}
	choices := c.sessions.choose(name, credential)
	for _, s := range choices[:len(choices)-1] {
		resp, err := c.try(ctx, call, s)
		if !Is(err, Unauthorized) {
			if err == nil || Is(err, NotFound) {
				c.sessions.accepted(name, s)
			}
			return resp, err
		}
	}
	resp, err := c.try(ctx, call, choices[len(choices)-1])
	if err == nil && len(choices) > 1 {
		c.sessions.refused(name, choices[0])
	}
	return resp, err
}

func (c *Client) credentialFor(ctx context.Context, repository string) (string, credentials.Credential, error) {
	if c.credentials == nil {
		return "", credentials.Credential{}, nil
	}
	return c.credentials.For(ctx, repository)
}

func (c *Client) try(ctx context.Context, call call, s *session) (*http.Response, error) {
	if left := c.limiter.wait(s); left > 0 {
		return nil, c.rateLimited(left)
	}
	target := *c.base
	target.Path = strings.TrimSuffix(c.base.Path, "/") + call.target()
	target.RawQuery = call.query.Encode()

	ctx = context.WithValue(withBegun(ctx, time.Now()), requestKey{}, requestInfo{kind: call.kind, repository: call.repository, session: s})
	if call.repository != "" {
		ctx = auth.AppendScopesForHost(ctx, c.base.Host, auth.ScopeRepository(call.repository, auth.ActionPull))
	}
	req, err := http.NewRequestWithContext(ctx, call.method, target.String(), nil)
	if err != nil {
		return nil, c.fail(Invalid, 0, "the request has no valid form")
	}
	for name, values := range call.header {
		req.Header[name] = values
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, c.explain(ctx, err, s)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.refusal(resp, s)
}

// explain turns the error of a request into one of ours. It must not quote the original, which can hold signed URLs.
func (c *Client) explain(ctx context.Context, err error, s *session) error {
	var answer *errcode.ErrorResponse
	var timeout net.Error
	var operation *net.OpError
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Cause(ctx)
	case errors.As(err, &answer):
		return c.tokenRefusal(answer, s)
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return c.fail(Unauthorized, http.StatusUnauthorized, "it asks for a credential, and none is configured")
	case errors.Is(err, errRealm):
		return c.fail(Unauthorized, 0, errRealm.Error())
	case errors.Is(err, errRedirect):
		return c.fail(Unavailable, 0, errRedirect.Error())
	case errors.As(err, &timeout) && timeout.Timeout():
		return c.fail(Unavailable, 0, "it does not answer in time")
	case errors.As(err, &certificate):
		return c.fail(Unavailable, 0, fmt.Sprintf("its certificate is not trusted: %v", certificate.Err))
	case errors.As(err, &name):
		return c.fail(Unavailable, 0, "its name cannot be resolved")
	case errors.As(err, &operation):
		return c.fail(Unavailable, 0, fmt.Sprintf("%s: %v", operation.Op, operation.Err))
	}
	return c.fail(Unavailable, 0, "the request failed: "+innermost(err))
}

// innermost returns the text of the error at the bottom, below those that quote URLs.
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

// tokenRefusal explains why a token realm gave no token.
func (c *Client) tokenRefusal(answer *errcode.ErrorResponse, s *session) error {
	switch status := answer.StatusCode; {
	case status == http.StatusTooManyRequests:
		return c.rateLimited(max(c.limiter.wait(s), time.Second))
	case status >= http.StatusInternalServerError:
		return c.fail(Unavailable, status, fmt.Sprintf("its token service answered %d", status))
	default:
		return c.fail(Unauthorized, status, fmt.Sprintf("its token service answered %d to the credential", status))
	}
}

const maxErrorBody = 8 << 10

// refusal explains an answer that is no success.
func (c *Client) refusal(resp *http.Response, s *session) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	cause := fmt.Sprintf("it answered %d", resp.StatusCode)
	if code := parseErrorCode(body); code != "" {
		cause += " " + code
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		return c.fail(NotFound, resp.StatusCode, cause)
	case http.StatusUnauthorized, http.StatusForbidden:
		return c.fail(Unauthorized, resp.StatusCode, cause)
	case http.StatusTooManyRequests:
		return c.rateLimited(max(c.limiter.wait(s), parseRetryAfter(resp.Header.Get("Retry-After"), c.now())))
	}
	return c.fail(Unavailable, resp.StatusCode, cause)
}

func (c *Client) rateLimited(left time.Duration) error {
	return &Error{
		Reason: RateLimited, Status: http.StatusTooManyRequests, RetryAfter: left, Host: c.base.Host,
		Cause: "it limits the rate of requests",
	}
}

func (c *Client) fail(reason Reason, status int, cause string) error {
	return &Error{Reason: reason, Status: status, Host: c.base.Host, Cause: cause}
}
