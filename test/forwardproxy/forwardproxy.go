// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package forwardproxy is an HTTP proxy that finds every host at the loopback address, so that tests can use names that
// no DNS server knows.
package forwardproxy

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options describe a proxy.
type Options struct {
	// Certificate makes clients reach the proxy over HTTPS. It must be valid for 127.0.0.1.
	Certificate *tls.Certificate
}

// Request is a request of a client: CONNECT, or one to forward.
type Request struct {
	Method, Host string
	// Username is that of the credential for the proxy, empty for none.
	Username string
	// Status is 407 if the proxy refused the request.
	Status int
	// Identified means that the client presented a certificate.
	Identified bool
}

// Proxy is a running proxy.
type Proxy struct {
	server  *http.Server
	url     url.URL
	forward *httputil.ReverseProxy

	mu sync.Mutex
	// accounts are the accepted user names with their passwords; nil accepts every client.
	accounts map[string]string
	requests []Request
}

// Start starts a proxy that requires no credential.
func Start(o Options) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{url: url.URL{Scheme: "http", Host: listener.Addr().String()}}
	p.forward = &httputil.ReverseProxy{
		Rewrite:   func(*httputil.ProxyRequest) {}, // The URL is absolute, and ReverseProxy drops what is for the proxy only.
		Transport: &http.Transport{DialContext: dialLoopback, DisableKeepAlives: true, DisableCompression: true},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	p.server = &http.Server{Handler: http.HandlerFunc(p.serve), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second}
	if o.Certificate == nil {
		go func() { _ = p.server.Serve(listener) }()
		return p, nil
	}
	p.url.Scheme = "https"
	p.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*o.Certificate}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	p.server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){} // A tunnel needs HTTP/1.1.
	go func() { _ = p.server.ServeTLS(listener, "", "") }()
	return p, nil
}

// URL returns the URL of the proxy.
func (p *Proxy) URL() string { return p.url.String() }

// Accept replaces the accepted user names and passwords. Tunnels that exist stay.
func (p *Proxy) Accept(accounts map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accounts = accounts
}

// Requests returns all requests so far.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// Hosts returns the hosts of all requests so far, without ports.
func (p *Proxy) Hosts() []string {
	var hosts []string
	for _, request := range p.Requests() {
		if host, _, _ := net.SplitHostPort(request.Host); !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// Close ends the proxy. Tunnels end with their clients.
func (p *Proxy) Close() { _ = p.server.Close() }

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	username, ok := p.authenticate(r)
	status := http.StatusOK
	if !ok {
		status = http.StatusProxyAuthRequired
	}
	p.mu.Lock()
	p.requests = append(p.requests, Request{
		Method: r.Method, Host: r.Host, Username: username, Status: status,
		Identified: r.TLS != nil && len(r.TLS.PeerCertificates) > 0,
	})
	p.mu.Unlock()
	switch {
	case !ok:
		w.Header().Set("Proxy-Authenticate", `Basic realm="proxy"`)
		w.WriteHeader(status)
	case r.Method == http.MethodConnect:
		tunnel(w, r)
	default:
		p.forward.ServeHTTP(w, r)
	}
}

// authenticate returns the user name of a request, and whether it is accepted.
func (p *Proxy) authenticate(r *http.Request) (string, bool) {
	encoded, _ := strings.CutPrefix(r.Header.Get("Proxy-Authorization"), "Basic ")
	decoded, _ := base64.StdEncoding.DecodeString(encoded)
	username, password, _ := strings.Cut(string(decoded), ":")
	p.mu.Lock()
	defer p.mu.Unlock()
	expected, known := p.accounts[username]
	return username, p.accounts == nil || known && expected == password
}

// tunnel connects a client with the requested port.
func tunnel(w http.ResponseWriter, r *http.Request) {
	target, err := dialLoopback(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = target.Close()
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// The side that ends first ends the other.
	_, _ = client.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	go func() { _, _ = io.Copy(target, client); _ = target.Close() }()
	_, _ = io.Copy(client, target)
	_ = client.Close()
}

// dialLoopback connects to a port of the loopback address, whatever the host.
func dialLoopback(ctx context.Context, network, address string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
}
