// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/larder-project/larder/pkg/credentials"
)

// loginInterval is how long the result of a login discovery is remembered.
const loginInterval = 10 * time.Minute

// discoverLogin returns the challenge of the base path of the API, which is where clients log in; nil if there is none.
// It asks the server that refused the request, since an upstream may redirect its clients from http to https first.
func (p *place) discoverLogin(refused *http.Request) (*challenge, error) {
	client, ctx := p.auth.client, refused.Context()
	p.mu.Lock()
	login, known := p.login, !p.discovered.IsZero() && client.now().Sub(p.discovered) < loginInterval
	p.mu.Unlock()
	if known {
		return login, nil
	}
	info := infoOf(ctx)
	info.kind = kindPing
	target := url.URL{Scheme: refused.URL.Scheme, Host: refused.URL.Host, Path: apiRoot}
	req, err := http.NewRequestWithContext(context.WithValue(ctx, requestKey{}, info), http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.send(client.introduce(req), nil)
	if err != nil {
		return nil, err
	}
	discard(resp)
	login = nil
	switch {
	case refuses(resp.StatusCode):
		if login, err = p.choose(req, resp); err != nil {
			return nil, err
		}
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= http.StatusInternalServerError:
		// Without a proper response to the ping, the refusal of an anonymous request proves nothing.
		return nil, client.fail(Unavailable, resp.StatusCode, fmt.Sprintf("status %d instead of a login challenge", resp.StatusCode))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.login, p.discovered = login, client.now()
	return login, nil
}

// choose returns the best challenge of a response that can be met: a token exposes a credential to fewer servers than
// the credential itself. It returns nil if there is none, and an error if there is only one whose realm is not allowed.
func (p *place) choose(req *http.Request, resp *http.Response) (*challenge, error) {
	offered := parseChallenges(resp.Header.Values("Www-Authenticate"))
	if p.credential.RegistryToken != "" {
		// The token goes to the registry itself, so its realm is not contacted and does not matter.
		i := slices.IndexFunc(offered, func(c challenge) bool { return c.scheme == schemeBearer })
		if i < 0 {
			return nil, nil
		}
		return &offered[i], nil
	}
	var refused error
	for _, c := range offered {
		if c.scheme != schemeBearer || c.realm == "" {
			continue
		}
		var err error
		if c.endpoint, err = p.checkRealm(req.URL, c.realm); err == nil {
			return &c, nil
		}
		refused = err
	}
	for _, c := range offered {
		if c.scheme == schemeBasic && p.credential.Password != "" {
			return &c, nil
		}
	}
	return nil, refused
}

// checkRealm decides whether tokens may be requested from a realm. Without a credential, there is none to lose.
func (p *place) checkRealm(from *url.URL, realm string) (*url.URL, error) {
	client := p.auth.client
	endpoint, err := from.Parse(realm)
	switch {
	case err != nil || endpoint.Host == "" || endpoint.Scheme != "https" && endpoint.Scheme != "http":
		return nil, client.fail(Invalid, 0, "token realm is not the URL of a server")
	case endpoint.Scheme == "http" && from.Scheme == "https":
		return nil, client.fail(Unauthorized, 0, fmt.Sprintf("token realm on %s is not encrypted, unlike the registry", endpoint.Host))
	case p.credential != (credentials.Credential{}) && !client.guard.realmAllowed(endpoint):
		return nil, client.fail(Unauthorized, 0, fmt.Sprintf(
			"token realm is on a foreign domain; if %s may see the credential, add it to allowedrealms", endpoint.Host))
	}
	endpoint.User, endpoint.Fragment = nil, ""
	return endpoint, nil
}

// maxDiscard bounds how much of an unused response is read so that its connection can be used again.
const maxDiscard = 8 << 10

func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxDiscard)
	_ = resp.Body.Close()
}
