// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/connection"
)

// errRedirect means that the guard refused to follow a redirect.
var errRedirect = errors.New("redirect is not allowed")

// errRealm means that a token realm must not see the credential.
var errRealm = errors.New("token realm on a foreign domain is not allowed")

// errAddress means that a host name or URL has a forbidden address.
var errAddress = errors.New("address is link-local, multicast, unspecified or that of a cloud metadata service, which is not allowed")

// guard passes or refuses every outgoing request by its destination:
//
//   - the upstream and allowed token realms may see an Authorization header and the client certificate;
//   - any other host may be the target of a redirect, or asked for an anonymous token, and sees at most such a token;
//   - a redirect from https to http is never followed;
//   - no request goes to the address of a cloud metadata service, whatever its host name (see checkDial).
type guard struct {
	base   *url.URL
	realms []string
	next   http.RoundTripper
	watch  func(req *http.Request, resp *http.Response, err error, took time.Duration)
}

type withoutCredentialKey struct{}

// withoutCredential marks a request that carries neither the credential nor a token obtained with it.
func withoutCredential(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutCredentialKey{}, true)
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	started := time.Now()
	resp, err := g.pass(req)
	g.watch(req, resp, err, time.Since(started))
	return resp, err
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (g *guard) CloseIdleConnections() {
	(&http.Client{Transport: g.next}).CloseIdleConnections()
}

func (g *guard) pass(req *http.Request) (*http.Response, error) {
	if address, err := netip.ParseAddr(req.URL.Hostname()); err == nil && forbidden(address) {
		return nil, errAddress // With a proxy, checkDial does not see it.
	}
	if g.mayIdentify(req) {
		req = req.WithContext(connection.WithIdentity(req.Context()))
	}
	if g.own(req.URL) {
		return g.next.RoundTrip(req)
	}
	if err := g.checkForeign(req); err != nil {
		return nil, err
	}
	if req.Header.Get("Authorization") != "" && !g.mayCarry(req) {
		req = req.Clone(req.Context())
		req.Header.Del("Authorization")
	}
	return g.next.RoundTrip(req)
}

func (g *guard) checkForeign(req *http.Request) error {
	if req.URL.Scheme != "https" && (req.URL.Scheme != "http" || g.base.Scheme == "https") {
		return errRedirect
	}
	// Without a redirect, which net/http marks, the client makes requests to realms only.
	if req.Response == nil && req.Context().Value(withoutCredentialKey{}) == nil && !g.realmAllowed(req.URL) {
		return fmt.Errorf("%w: %s", errRealm, req.URL.Host)
	}
	return nil
}

// mayCarry reports whether a request to another host may carry its Authorization header. A realm sees the credential
// when it is asked for a token, but not as the target of a redirect.
func (g *guard) mayCarry(req *http.Request) bool {
	if req.Context().Value(withoutCredentialKey{}) != nil {
		return strings.HasPrefix(req.Header.Get("Authorization"), "Bearer ")
	}
	return req.Response == nil && isTokenRequest(req.Context()) && g.realmAllowed(req.URL)
}

// mayIdentify reports whether the client certificate may be presented for a request: to the servers that see the
// credential, but not after a redirect to another host, and not for a guest, which may be allowed less than the cache.
func (g *guard) mayIdentify(req *http.Request) bool {
	if s := infoOf(req.Context()).session; s != nil && s.guest {
		return false
	}
	if own, isToken := req.Context().Value(tokenRequestKey{}).(bool); isToken {
		return own && req.Response == nil && g.realmAllowed(req.URL)
	}
	return g.ownPath(req)
}

// ownPath reports whether a request goes to the upstream, and so did all redirects that led to it.
func (g *guard) ownPath(req *http.Request) bool {
	own := g.own(req.URL)
	for hop := req.Response; hop != nil && hop.Request != nil; hop = hop.Request.Response {
		own = own && g.own(hop.Request.URL)
	}
	return own
}

// own reports whether a URL is that of the upstream, which may redirect its clients from http to https.
func (g *guard) own(u *url.URL) bool {
	return sameOrigin(u, g.base) || g.base.Scheme == "http" && u.Scheme == "https" &&
		strings.EqualFold(u.Hostname(), g.base.Hostname()) && strings.HasSuffix(canonicalHost(g.base), ":80") &&
		strings.HasSuffix(canonicalHost(u), ":443")
}

// realmAllowed reports whether a URL may see the credential to issue a token: if it is on the upstream itself, on a
// host with the same registrable domain (such as auth.docker.io for registry-1.docker.io), or on a configured host.
// Addresses and localhost have no domain; unless they are the upstream, they have to be configured.
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

// maxRedirects bounds the redirects of a request: from the upstream to storage to its nearest edge, and a few to spare.
const maxRedirects = 5

func checkRedirect(_ *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("%w: too many", errRedirect)
	}
	return nil
}

// metadata are addresses of cloud metadata and credential services that are not link-local.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd00:ec2::23"),    // AWS, credentials of pods
	netip.MustParseAddr("fd20:ce::254"),    // Google
	netip.MustParseAddr("fd00:42::42"),     // Scaleway
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("192.0.0.192"),     // Oracle
}

// nat64 contains the IPv4 addresses that are reached through a translator.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// forbidden reports whether no registry can have an address. In-house registries have private and loopback addresses.
func forbidden(address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	if nat64.Contains(address) {
		bytes := address.As16()
		address = netip.AddrFrom4([4]byte(bytes[12:]))
	}
	if address.IsUnspecified() || address.IsMulticast() || address.IsLinkLocalUnicast() || address == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return true
	}
	for _, service := range metadata {
		if address == service {
			return true
		}
	}
	return false
}

// checkDial is the Control of a net.Dialer. It sees the resolved address of each connection.
func checkDial(_, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil || forbidden(target.Addr()) {
		return errAddress
	}
	return nil
}
