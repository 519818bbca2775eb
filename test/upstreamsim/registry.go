// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim

import (
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/larder-project/larder/test/ports"
)

// Authentication is how a registry wants to be asked.
type Authentication string

// The kinds of authentication.
const (
	Anonymous Authentication = "anonymous"
	Basic     Authentication = "basic"
	Bearer    Authentication = "bearer"
)

// Options describes a simulated registry.
type Options struct {
	// Authentication defaults to Anonymous. Username and Password are for the
	// other two kinds.
	Authentication     Authentication
	Username, Password string
	// PublicTokens lets the token server issue tokens to those who do not say who they are.
	PublicTokens bool
	// TokenLifetime is how long bearer tokens are valid; an hour by default.
	TokenLifetime time.Duration
	// BytesPerSecond is the bandwidth that all connections share; 0 is no limit.
	BytesPerSecond float64
	// Latency passes before each request is looked at.
	Latency time.Duration
	// Certificate makes the registry serve HTTPS.
	Certificate *tls.Certificate
	// NoReferrers makes a registry without the referrers API.
	NoReferrers bool
	// PageSize is how long the pages of lists are at most; 0 is no limit.
	PageSize int
	// PageTokens makes pages go on from a token, as some registries do it, and not from the last item.
	PageTokens bool
}

// Registry is a simulated registry that serves on a loopback address.
type Registry struct {
	options     Options
	line        *line
	counting    counting
	store       store
	switchboard *switchboard
	tokens      tokens

	port    *ports.Reservation // also while connections are refused
	server  *http.Server
	foreign *http.Server // another host, which must be shown no credentials
	origin  string       // the URL of foreign

	mu          sync.Mutex
	wrapper     func(http.Handler) http.Handler
	listener    net.Listener // nil while connections are refused
	connections map[net.Conn]struct{}
}

// Start starts a simulated registry.
func Start(options Options) (*Registry, error) {
	if options.TokenLifetime == 0 {
		options.TokenLifetime = time.Hour
	}
	r := &Registry{
		options:     options,
		line:        &line{bytesPerSecond: options.BytesPerSecond},
		switchboard: newSwitchboard(),
		tokens:      tokens{username: options.Username, password: options.Password, lifetime: options.TokenLifetime, public: options.PublicTokens},
		connections: map[net.Conn]struct{}{},
	}
	silent := log.New(discard{}, "", 0)

	foreign, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		return nil, err
	}
	r.origin = "http://" + foreign.Addr().String()
	r.foreign = &http.Server{Handler: http.HandlerFunc(r.serveForeign), ErrorLog: silent, ReadHeaderTimeout: headerTimeout}
	go func() { _ = r.foreign.Serve(foreign) }()

	r.server = &http.Server{Handler: http.HandlerFunc(r.serveWrapped), ErrorLog: silent, ConnState: r.track, ReadHeaderTimeout: headerTimeout}
	if r.port, err = ports.Reserve(); err == nil {
		err = r.Accept()
	}
	if err != nil {
		_ = r.foreign.Close()
		return nil, err
	}
	return r, nil
}

const headerTimeout = 10 * time.Second

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// URL returns the registry's URL.
func (r *Registry) URL() string {
	if r.options.Certificate != nil {
		return "https://" + r.port.Address()
	}
	return "http://" + r.port.Address()
}

// ForeignHost returns host and port of the other host, to which Faults sends
// clients for blobs and tokens.
func (r *Registry) ForeignHost() string { return strings.TrimPrefix(r.origin, "http://") }

// Push adds an image under a tag; without one, by digest only.
func (r *Registry) Push(name, tag string, image Image) {
	r.PushManifest(name, tag, image.Manifest)
	r.store.change(name, func(repo *repository) {
		for _, blob := range image.Blobs {
			repo.blobs[blob.Descriptor().Digest] = blob
		}
	})
}

// PushManifest adds a manifest under a tag; without one, by digest only.
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

// Counters returns what the registry has been asked so far.
func (r *Registry) Counters() Counters { return r.counting.snapshot() }

// ResetCounters forgets what the registry has been asked.
func (r *Registry) ResetCounters() { r.counting.reset() }

// Misbehave switches faults on; the zero value switches them off. Requests that
// hang are dropped.
func (r *Registry) Misbehave(faults Faults) { r.switchboard.set(faults) }

// SetCredential replaces the accepted credential and revokes all tokens.
func (r *Registry) SetCredential(username, password string) { r.tokens.replace(username, password) }

// Refuse refuses connections until Accept, and closes those that are open.
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
	listener, err := r.port.Listen()
	if err != nil {
		return fmt.Errorf("registry cannot listen: %w", err)
	}
	r.listener = listener
	go func() {
		if r.options.Certificate == nil {
			_ = r.server.Serve(listener)
			return
		}
		r.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*r.options.Certificate}, MinVersion: tls.VersionTLS12}
		_ = r.server.ServeTLS(listener, "", "")
	}()
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
	_ = r.server.Close()
	_ = r.foreign.Close()
	_ = r.port.Close()
}
