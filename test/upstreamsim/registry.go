// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-project/larder/test/ports"
)

// Authentication is the authentication scheme of a registry.
type Authentication string

// The authentication schemes.
const (
	Anonymous Authentication = "anonymous"
	Basic     Authentication = "basic"
	Bearer    Authentication = "bearer"
)

// Denial is how a registry refuses what a client may not pull.
type Denial string

// The kinds of denial.
const (
	// DenyObject issues a token without the permission, and refuses the object, like Docker Hub.
	DenyObject Denial = ""
	// DenyToken refuses the token, like GitHub's registry: also to a wrong credential for a public repository.
	DenyToken Denial = "token"
	// Hide claims that the object does not exist.
	Hide Denial = "hide"
)

// Options describes a simulated registry. Benchmarks pass it to another process as JSON, without the functions.
type Options struct {
	// Authentication defaults to Anonymous. Username and Password are the account of the other two kinds.
	Authentication     Authentication
	Username, Password string
	// Accounts replaces Username and Password. It is called for every request, so that accounts can change: tokens of
	// accounts that no longer exist are invalid.
	Accounts func() []Account `json:"-"`
	// PublicTokens makes the token server issue tokens to anonymous clients.
	PublicTokens bool
	// Public are prefixes of the repositories that anonymous clients may pull, by path segments. They replace
	// PublicTokens: unless Denial says otherwise, the token server issues tokens for all repositories, but without
	// permissions for those that are not public.
	Public []string
	// Denial is how the registry refuses what a client may not pull.
	Denial Denial
	// SharedBlobs makes the registry find a blob in whatever repository the client may pull, as some do that store all
	// content together.
	SharedBlobs bool
	// TokenLifetime is the lifetime of bearer tokens, by default an hour.
	TokenLifetime time.Duration

	// Endpoint is the address of the registry, by default a free port of the loopback interface.
	Endpoint Endpoint
	// TokenEndpoint is the address of the token server. By default, the registry serves tokens itself, under TokenPath.
	TokenEndpoint Endpoint
	// Certificate makes the registry, the token server and the foreign host serve HTTPS.
	Certificate *tls.Certificate
	// Listen replaces net.Listen, for a registry in another network namespace.
	Listen func(network, address string) (net.Listener, error) `json:"-"`
	// VerifyClient makes the registry and the token server require a client certificate, and returns an error for one that
	// they do not accept.
	VerifyClient func(*x509.Certificate) error `json:"-"`

	// Content serves the repositories in place of those in memory.
	Content http.Handler `json:"-"`
	// BytesPerSecond is the bandwidth that all connections share; 0 is no limit.
	BytesPerSecond float64
	// Latency delays each response.
	Latency time.Duration
	// NoReferrers omits the referrers API.
	NoReferrers bool
	// PageSize is the maximum length of the pages of a list; 0 is no limit.
	PageSize int
	// PageTokens makes the links between pages carry a token, as in some registries, in place of the last item.
	PageTokens bool

	// Observe is called for each request, before the client gets the response, and concurrently.
	Observe func(Request) `json:"-"`
}

// Endpoint is the address of a server.
type Endpoint struct {
	// Listen is the address to bind, host:port. Port 0 is any free port.
	Listen string
	// Host is the host[:port] that clients use, by default the bound address. The default port is the bound one.
	Host string
}

// host returns the host and port that clients use.
func (e Endpoint) host(bound string) string {
	if e.Host == "" {
		return bound
	}
	if _, _, err := net.SplitHostPort(e.Host); err == nil {
		return e.Host
	}
	_, port, _ := net.SplitHostPort(bound) // The address of a listener has a port.
	return net.JoinHostPort(e.Host, port)
}

// Registry is a simulated registry.
type Registry struct {
	options     Options
	line        *line
	counting    counting
	store       store
	switchboard *switchboard
	credential  credential
	tokens      tokenServer

	port        *ports.Reservation // holds the port while connections are refused; nil with Endpoint.Listen
	address     string             // bound
	server      *http.Server
	tokenServer *http.Server // nil if the registry serves tokens itself
	tokenURL    string
	foreign     *http.Server // another host, which must not receive credentials
	origin      string       // the URL of foreign

	certificate atomic.Pointer[tls.Certificate]

	mu          sync.Mutex
	wrapper     func(http.Handler) http.Handler
	listener    net.Listener // nil while connections are refused
	connections map[net.Conn]struct{}
}

// Start starts a simulated registry.
func Start(options Options) (_ *Registry, err error) {
	if options.TokenLifetime == 0 {
		options.TokenLifetime = time.Hour
	}
	r := &Registry{
		line:        &line{bytesPerSecond: options.BytesPerSecond},
		switchboard: newSwitchboard(),
		connections: map[net.Conn]struct{}{},
	}
	if options.Listen == nil {
		options.Listen = net.Listen
	}
	r.credential.set(options.Username, options.Password)
	r.certificate.Store(options.Certificate)
	if options.Accounts == nil {
		options.Accounts = r.credential.accounts
	}
	r.options = options
	r.tokens = tokenServer{
		accounts: options.Accounts, lifetime: options.TokenLifetime, public: options.PublicTokens || options.Public != nil,
		anonymous: Account{Repositories: options.Public}, refuses: options.Denial == DenyToken,
	}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if err := r.startForeign(); err != nil {
		return nil, fmt.Errorf("start foreign host: %w", err)
	}
	r.server = r.newServer(r.serveWrapped)
	r.server.ConnState = r.track
	r.address = options.Endpoint.Listen
	if r.address == "" {
		if r.port, err = ports.Reserve(); err != nil {
			return nil, err
		}
		r.address = r.port.Address()
	}
	listener, err := options.Listen("tcp", r.address)
	if err != nil {
		return nil, fmt.Errorf("start registry: %w", err)
	}
	r.address = listener.Addr().String()
	if err := r.startTokenServer(); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("start token server: %w", err)
	}
	r.listener = listener
	r.serveAt(r.server, listener)
	return r, nil
}

func (r *Registry) startForeign() error {
	listener, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		return err
	}
	r.origin = r.scheme() + listener.Addr().String()
	r.foreign = r.newServer(r.serveForeign)
	if r.foreign.TLSConfig != nil {
		// It asks for a certificate that it must not get.
		r.foreign.TLSConfig.ClientAuth, r.foreign.TLSConfig.VerifyConnection = tls.RequestClientCert, nil
	}
	r.serveAt(r.foreign, listener)
	return nil
}

// startTokenServer starts the token server if it has an address of its own.
func (r *Registry) startTokenServer() error {
	endpoint := r.options.TokenEndpoint
	if endpoint.Listen == "" {
		r.tokenURL = r.URL()
		return nil
	}
	listener, err := r.options.Listen("tcp", endpoint.Listen)
	if err != nil {
		return err
	}
	r.tokenURL = r.scheme() + endpoint.host(listener.Addr().String())
	r.tokenServer = r.newServer(r.serveTokens)
	r.serveAt(r.tokenServer, listener)
	return nil
}

func (r *Registry) newServer(handler http.HandlerFunc) *http.Server {
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second}
	if r.options.Certificate != nil {
		server.TLSConfig = &tls.Config{
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return r.certificate.Load(), nil },
			MinVersion:     tls.VersionTLS12,
		}
		if verify := r.options.VerifyClient; verify != nil {
			server.TLSConfig.ClientAuth = tls.RequireAnyClientCert
			server.TLSConfig.VerifyConnection = func(state tls.ConnectionState) error { return verify(state.PeerCertificates[0]) }
		}
	}
	return server
}

// serveAt serves in the background until the server is closed.
func (r *Registry) serveAt(server *http.Server, listener net.Listener) {
	go func() {
		if r.options.Certificate == nil {
			_ = server.Serve(listener)
		} else {
			_ = server.ServeTLS(listener, "", "")
		}
	}()
}

func (r *Registry) scheme() string {
	if r.options.Certificate != nil {
		return "https://"
	}
	return "http://"
}

// Host returns the host and port that clients use.
func (r *Registry) Host() string { return r.options.Endpoint.host(r.address) }

// URL returns the registry's URL.
func (r *Registry) URL() string { return r.scheme() + r.Host() }

// ForeignHost returns the host and port of the other host, to which Faults sends clients for blobs and tokens.
func (r *Registry) ForeignHost() string { return strings.TrimPrefix(r.origin, r.scheme()) }

// Push adds an image under a tag, or by digest only if the tag is empty.
func (r *Registry) Push(name, tag string, image Image) {
	r.PushManifest(name, tag, image.Manifest)
	r.store.change(name, func(repo *repository) {
		for _, blob := range image.Blobs {
			repo.blobs[blob.Descriptor().Digest] = blob
		}
	})
}

// PushManifest adds a manifest under a tag, or by digest only if the tag is empty.
func (r *Registry) PushManifest(name, tag string, manifest Content) {
	r.store.change(name, func(repo *repository) {
		dgst := manifest.Descriptor().Digest
		repo.manifests[dgst] = manifest
		if tag != "" {
			repo.tags[tag] = dgst
		}
	})
}

// DeleteTag removes a tag.
func (r *Registry) DeleteTag(name, tag string) {
	r.store.change(name, func(repo *repository) { delete(repo.tags, tag) })
}

// Counters returns the counters since the last reset.
func (r *Registry) Counters() Counters { return r.counting.snapshot() }

// ResetCounters sets the counters to zero.
func (r *Registry) ResetCounters() { r.counting.reset() }

// Misbehave replaces the faults; the zero value ends them. Hanging requests are aborted.
func (r *Registry) Misbehave(faults Faults) { r.switchboard.set(faults) }

// SetCredential replaces the accepted credential and revokes all tokens.
func (r *Registry) SetCredential(username, password string) {
	r.credential.set(username, password)
	r.tokens.revoke()
}

// SetCertificate replaces the certificate of a registry that serves HTTPS, for new connections.
func (r *Registry) SetCertificate(certificate tls.Certificate) { r.certificate.Store(&certificate) }

// RevokeTokens revokes all tokens.
func (r *Registry) RevokeTokens() { r.tokens.revoke() }

// Wrap puts a handler in front of the registry, to simulate its peculiarities or those of a proxy; nil removes it. It
// does not affect the foreign host.
func (r *Registry) Wrap(wrapper func(registry http.Handler) http.Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrapper = wrapper
}

func (r *Registry) serveWrapped(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	wrapper := r.wrapper
	r.mu.Unlock()
	handler := http.Handler(http.HandlerFunc(r.serve))
	if wrapper != nil {
		handler = wrapper(handler)
	}
	handler.ServeHTTP(w, req)
}

// Refuse closes all connections and refuses new ones until Accept.
func (r *Registry) Refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil {
		_ = r.listener.Close()
		r.listener = nil
	}
	for connection := range r.connections {
		_ = connection.Close()
	}
}

// Accept ends Refuse.
func (r *Registry) Accept() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil {
		return nil
	}
	listener, err := r.options.Listen("tcp", r.address)
	if err != nil {
		return fmt.Errorf("accept connections: %w", err)
	}
	r.listener = listener
	r.serveAt(r.server, listener)
	return nil
}

func (r *Registry) track(connection net.Conn, state http.ConnState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch state {
	case http.StateNew:
		r.connections[connection] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(r.connections, connection)
	}
}

// Close ends the registry and all its connections.
func (r *Registry) Close() {
	r.Misbehave(Faults{})
	for _, server := range []*http.Server{r.server, r.tokenServer, r.foreign} {
		if server != nil {
			_ = server.Close()
		}
	}
	if r.port != nil {
		_ = r.port.Close()
	}
}
