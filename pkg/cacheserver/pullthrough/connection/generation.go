// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package connection

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// generation connects with one state of the files. It never changes, so neither connections nor TLS sessions of an
// earlier state are used for a later one.
type generation struct {
	content contents
	proxies proxies
	// expires is when the client certificate expires, zero without one.
	expires time.Time
	// anonymous and identified are the same without a client certificate.
	anonymous, identified *http.Transport
}

func newGeneration(o Options, content contents) (*generation, error) {
	roots, err := content.roots()
	if err != nil {
		return nil, err
	}
	identity, err := content.identity()
	if err != nil {
		return nil, err
	}
	g := &generation{content: content, proxies: newProxies(httpproxy.FromEnvironment(), content.proxyCredential())}
	g.anonymous = g.newTransport(o, tlsConfig(roots))
	g.identified = g.anonymous
	if identity != nil {
		g.expires = identity.Leaf.NotAfter
		config := tlsConfig(roots)
		config.Certificates = []tls.Certificate{*identity}
		g.identified = g.newTransport(o, config)
		if len(g.proxies.encrypted) > 0 {
			g.identified.DialTLSContext = g.dialTLS(o)
		}
	}
	return g, nil
}

// newTransport returns a transport for HTTP/1.1: each fetch has its own connection, so that a slow or broken one does
// not hold up others.
func (g *generation) newTransport(o Options, config *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:                  g.proxies.of,
		OnProxyConnectResponse: g.proxies.checkConnect,
		DialContext:            o.dialer().DialContext,
		TLSHandshakeTimeout:    o.Connect,
		TLSClientConfig:        config,
		ResponseHeaderTimeout:  o.FirstByte,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // A digest is that of the uncompressed response.
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        90 * time.Second,
		ReadBufferSize:         32 << 10,
		ForceAttemptHTTP2:      false,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
}

func (o Options) dialer() *net.Dialer {
	return &net.Dialer{Timeout: o.Connect, KeepAlive: o.KeepAlive, Control: o.Control}
}

func tlsConfig(roots *x509.CertPool) *tls.Config {
	return &tls.Config{
		RootCAs: roots, MinVersion: tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(0), // Each fetch of a layer may open a connection.
	}
}

// dialTLS makes the first TLS connection of the identified transport. A proxy that is reached over HTTPS does not get
// the client certificate; net/http would present that to the proxy as well as to the server behind it.
func (g *generation) dialTLS(o Options) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		config := g.identified.TLSClientConfig
		if slices.Contains(g.proxies.encrypted, address) {
			config = g.anonymous.TLSClientConfig
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		raw, err := o.dialer().DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		config = config.Clone()
		config.ServerName = host
		connection := tls.Client(raw, config)
		ctx, cancel := context.WithTimeout(ctx, o.Connect)
		defer cancel()
		if err := connection.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		return connection, nil
	}
}

func (g *generation) roundTrip(req *http.Request) (*http.Response, error) {
	transport := g.anonymous
	if hasIdentity(req.Context()) {
		transport = g.identified
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if err := g.proxies.checkForwarded(req, resp); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

func (g *generation) closeIdle() {
	g.anonymous.CloseIdleConnections()
	g.identified.CloseIdleConnections()
}

// proxies selects the proxy of each request.
type proxies struct {
	forURL     func(*url.URL) (*url.URL, error)
	credential *url.Userinfo
	// encrypted are the addresses of proxies that are reached over HTTPS.
	encrypted []string
}

func newProxies(config *httpproxy.Config, credential *url.Userinfo) proxies {
	p := proxies{forURL: config.ProxyFunc(), credential: credential}
	for _, text := range []string{config.HTTPProxy, config.HTTPSProxy} {
		if proxy, err := url.Parse(text); err == nil && proxy.Scheme == "https" {
			port := proxy.Port()
			if port == "" {
				port = "443"
			}
			p.encrypted = append(p.encrypted, net.JoinHostPort(proxy.Hostname(), port))
		}
	}
	return p
}

// of returns the proxy for a request, with its credential; nil for none.
func (p proxies) of(req *http.Request) (*url.URL, error) {
	proxy, err := p.forURL(req.URL)
	if err != nil || proxy == nil || p.credential == nil {
		return proxy, err
	}
	signed := *proxy
	signed.User = p.credential
	return &signed, nil
}

// checkConnect returns an error if a proxy refuses to connect to a server that is reached over HTTPS.
func (p proxies) checkConnect(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &ProxyError{Status: resp.StatusCode, signed: proxy.User != nil}
}

// checkForwarded returns an error if a proxy requires a credential for a request that it forwards. Its other errors
// look like those of the server.
func (p proxies) checkForwarded(req *http.Request, resp *http.Response) error {
	if resp.StatusCode != http.StatusProxyAuthRequired || req.URL.Scheme != "http" {
		return nil
	}
	proxy, err := p.of(req)
	if err != nil || proxy == nil {
		return nil //nolint:nilerr // The response came without a proxy.
	}
	return &ProxyError{Status: resp.StatusCode, signed: proxy.User != nil}
}
