// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// errRealm says that the upstream wants tokens from a place that the owner of the cache did not allow.
var errRealm = errors.New("token realm on a foreign domain is not allowed")

// errRedirect says that the upstream redirected to where the cache does not go.
var errRedirect = errors.New("redirect is not allowed")

// guard is the only way out. It decides by the destination of each single request, whoever made it:
//
//   - the upstream and allowed token realms may see an Authorization header;
//   - any other host may be reached by way of a redirect only, and never sees one;
//   - nothing is ever followed from https down to http, or to a link-local address, where clouds keep metadata.
type guard struct {
	base   *url.URL
	realms []string
	next   http.RoundTripper
	watch  func(*http.Request, *http.Response, error)
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	out := req
	if host, ok := unveil(req.URL.Host); ok {
		out = req.Clone(req.Context())
		out.URL.Host, out.Host = host, host
	}
	if !sameOrigin(out.URL, g.base) {
		if err := g.checkForeign(out); err != nil {
			g.watch(req, nil, err)
			return nil, err
		}
		// A realm sees it when it is asked for a token, and not as the place that a redirect leads to.
		if out.Header.Get("Authorization") != "" && (out.Response != nil || !g.realmAllowed(out.URL)) {
			out = out.Clone(out.Context())
			out.Header.Del("Authorization")
		}
	}
	resp, err := g.next.RoundTrip(out)
	g.watch(req, resp, err)
	if err == nil && resp.StatusCode == http.StatusUnauthorized && sameOrigin(out.URL, g.base) {
		err = g.checkChallenge(resp)
	}
	return resp, err
}

// checkChallenge refuses a realm that is not allowed before the client library does something about it, and veils one
// that is allowed but that the library would refuse by itself: it takes private addresses for attacks, and does not
// know what the owner allowed.
func (g *guard) checkChallenge(resp *http.Response) error {
	header := resp.Header.Get("Www-Authenticate")
	match := realmParameter.FindStringSubmatchIndex(header)
	if match == nil {
		return nil
	}
	text := header[match[2]:match[3]]
	realm, err := url.Parse(text)
	if err != nil || realm.Host == "" || !g.realmAllowed(realm) {
		_ = resp.Body.Close()
		return errRealm
	}
	if net.ParseIP(realm.Hostname()) != nil && !strings.EqualFold(realm.Host, g.base.Host) {
		realm.Host = veil(realm.Host)
		resp.Header.Set("Www-Authenticate", header[:match[2]]+realm.String()+header[match[3]:])
	}
	return nil
}

var realmParameter = regexp.MustCompile(`(?i)^bearer\s(?:.*[\s,])?realm="([^"\\]*)"`)

// veilSuffix cannot be the end of a real name, see RFC 2606.
const veilSuffix = ".realm.invalid"

func veil(host string) string { return hex.EncodeToString([]byte(host)) + veilSuffix }

func unveil(host string) (string, bool) {
	encoded, ok := strings.CutSuffix(host, veilSuffix)
	if !ok {
		return "", false
	}
	decoded, err := hex.DecodeString(encoded)
	return string(decoded), err == nil
}

func (g *guard) checkForeign(req *http.Request) error {
	if req.URL.Scheme != "https" && (req.URL.Scheme != "http" || g.base.Scheme == "https") {
		return errRedirect
	}
	if ip, err := netip.ParseAddr(strings.Trim(req.URL.Hostname(), "[]")); err == nil && ip.IsLinkLocalUnicast() {
		return errRedirect
	}
	// The client library makes requests of its own to realms only; net/http marks those that follow a redirect.
	if req.Response == nil && !g.realmAllowed(req.URL) {
		return fmt.Errorf("%w: %s", errRealm, req.URL.Host)
	}
	return nil
}

// realmAllowed reports whether tokens may be asked for, and credentials shown, at a URL: on the upstream itself, on a
// host with the same registrable domain (as of auth.docker.io for registry-1.docker.io), or on a host that the owner
// named. Addresses and localhost have no domain; they have to be named unless they are the upstream.
func (g *guard) realmAllowed(realm *url.URL) bool {
	if strings.EqualFold(realm.Host, g.base.Host) {
		return true
	}
	for _, allowed := range g.realms {
		if strings.EqualFold(allowed, realm.Host) || strings.EqualFold(allowed, realm.Hostname()) {
			return true
		}
	}
	domain := registrableDomain(g.base.Hostname())
	return domain != "" && domain == registrableDomain(realm.Hostname())
}

func registrableDomain(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if net.ParseIP(host) != nil {
		return ""
	}
	domain, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return ""
	}
	return domain
}

func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && canonicalHost(a) == canonicalHost(b)
}

func canonicalHost(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[strings.ToLower(u.Scheme)]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// maxRedirects is how many redirects are followed: upstream to storage to its nearest edge, and a few to spare.
const maxRedirects = 5

func checkRedirect(_ *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("%w: too many", errRedirect)
	}
	return nil
}
