// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/larder-project/larder/pkg/credentials"
)

const (
	// maxTokenResponse bounds the response of a token service, which may contain the same token twice.
	maxTokenResponse = 128 << 10
	// maxToken is the size of the largest token that fits into the headers that servers accept.
	maxToken = 32 << 10
	// maxLifetime bounds how long a token is used.
	maxLifetime = 24 * time.Hour
	// maxMargin bounds how long before its expiry a token is dropped, usually a tenth of its lifetime.
	maxMargin = 30 * time.Second
	// clientID identifies the cache to OAuth 2 token services.
	clientID = "larder"
)

// tokenRequestKey is the key of whether the token is for the upstream itself.
type tokenRequestKey struct{}

// isTokenRequest reports whether a request asks for a token.
func isTokenRequest(ctx context.Context) bool { return ctx.Value(tokenRequestKey{}) != nil }

// fetchToken requests a token from the token service of a challenge.
func (p *place) fetchToken(ctx context.Context, repository string, c challenge) (*grant, error) {
	client := p.auth.client
	ctx = context.WithValue(ctx, tokenRequestKey{}, p.own)
	if p.credential == (credentials.Credential{}) {
		ctx = withoutCredential(ctx)
	}
	if !p.own {
		// The token service of another host does not see the credential, so its rate limits are not those of the
		// session.
		info := infoOf(ctx)
		info.session = nil
		ctx = context.WithValue(ctx, requestKey{}, info)
	}
	service := "token service " + c.endpoint.Host
	if !p.own && c.scope != "" {
		repository = "" // The repository may have another name there.
	}
	requested := client.now()
	resp, err := p.requestToken(ctx, c, scopes(c, repository))
	if err != nil {
		return nil, at(service, client.explain(ctx, err))
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		discard(resp)
		return nil, at(service, p.tokenRefusal(resp))
	}
	raw, err := client.readAll(ctx, resp, maxTokenResponse)
	if err != nil {
		return nil, at(service, err)
	}
	value, lifetime, ok := parseToken(decoded(resp, raw, maxTokenResponse))
	if !ok {
		return nil, at(service, client.fail(Invalid, resp.StatusCode, "no token in the response"))
	}
	if p.own && p.credential != (credentials.Credential{}) {
		p.auth.loggedIn.Store(true)
	}
	g := &grant{header: "Bearer " + value, challenge: c}
	if lifetime > 0 {
		g.expires = requested.Add(lifetime - min(lifetime/10, maxMargin))
	}
	return g, nil
}

// requestToken uses GET, as registries specify it, or POST, as OAuth 2 does, for an identity token and if GET is not
// allowed.
func (p *place) requestToken(ctx context.Context, c challenge, scopes []string) (*http.Response, error) {
	if token := p.credential.IdentityToken; token != "" {
		p.auth.shown.Store(true)
		return p.postForm(ctx, c, scopes, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
	}
	target := *c.endpoint
	query := target.Query()
	if c.service != "" {
		query.Set("service", c.service)
	}
	for _, scope := range scopes {
		query.Add("scope", scope)
	}
	target.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	signed := p.credential != (credentials.Credential{})
	if signed {
		p.auth.shown.Store(true)
		req.SetBasicAuth(p.credential.Username, p.credential.Password)
	}
	resp, err := p.auth.client.tokens.Do(p.auth.client.introduce(req))
	if err != nil || resp.StatusCode != http.StatusMethodNotAllowed || !signed {
		return resp, err
	}
	discard(resp)
	return p.postForm(ctx, c, scopes, url.Values{
		"grant_type": {"password"}, "username": {p.credential.Username}, "password": {p.credential.Password},
	})
}

// postForm requests a token as OAuth 2 does. The form contains the grant.
func (p *place) postForm(ctx context.Context, c challenge, scopes []string, form url.Values) (*http.Response, error) {
	form.Set("client_id", clientID)
	form.Set("service", c.service)
	form.Set("scope", strings.Join(scopes, " "))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.GetBody = nil // A redirect must not forward the secret.
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return p.auth.client.tokens.Do(p.auth.client.introduce(req))
}

// tokenRefusal turns an unsuccessful response of a token service into an Error.
func (p *place) tokenRefusal(resp *http.Response) error {
	client, status := p.auth.client, resp.StatusCode
	cause, reason := fmt.Sprintf("status %d", status), Unavailable
	login := p.own && p.credential != (credentials.Credential{})
	switch {
	case status == http.StatusTooManyRequests:
		err := client.rateLimited(parseRetryAfter(resp.Header.Get("Retry-After"), client.now()))
		err.Login = login
		return err
	case status < http.StatusInternalServerError && p.own:
		reason = Unauthorized
		switch {
		case p.credential.IdentityToken != "" && (status == http.StatusNotFound || status == http.StatusMethodNotAllowed):
			cause += " for the identity token: the token service does not support them, use a user name and a password"
		case login:
			cause += " for the credential"
		}
	}
	err := client.fail(reason, status, cause)
	err.Login = login
	return err
}

// parseToken parses the response of a token service. The lifetime is 0 if it is unknown.
func parseToken(content []byte) (value string, lifetime time.Duration, ok bool) {
	var fields struct {
		Token       string          `json:"token"`
		AccessToken string          `json:"access_token"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	if json.Unmarshal(content, &fields) != nil {
		return "", 0, false
	}
	value = fields.AccessToken
	if value == "" {
		value = fields.Token
	}
	if value == "" || len(value) > maxToken || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", 0, false
	}
	// Some services quote the lifetime. An invalid one does not make the token useless.
	seconds, err := strconv.ParseFloat(strings.Trim(string(fields.ExpiresIn), `"`), 64)
	if err == nil && seconds > 0 {
		lifetime = time.Duration(min(seconds, maxLifetime.Seconds()) * float64(time.Second))
	}
	return value, lifetime, true
}
