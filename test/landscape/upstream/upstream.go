// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package upstream serves the registries that the caches of a landscape or a test pull from.
//
// There are two, both behind TLS and made of Distribution's handlers over files: `private`, which wants a bearer
// token of a token server that knows users and scopes, and `basic`, which wants a user name and a password of
// its htpasswd file. Who came and what for stands in the access log, one line for each request.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
)

// Names of the servers, as they stand in the access log.
const (
	Private = "private"
	Token   = "token"
	Basic   = "basic"
)

// Account is a user of the registries.
type Account struct {
	Username string
	Password string
}

// Endpoint is where a server listens, and how it is called.
type Endpoint struct {
	// Listen is the address to bind, host:port. Port 0 takes a free one.
	Listen string
	// Host is the host[:port] that clients use. Without a port the bound one is added; empty means the bound address.
	Host string
}

// Authority is a certificate authority that signs the servers' certificates.
type Authority struct {
	// Certificate and Key are PEM.
	Certificate []byte
	Key         []byte
}

// Options describe both registries.
type Options struct {
	// Dir keeps the content over restarts.
	Dir string
	CA  Authority

	Private Endpoint
	Basic   Endpoint
	// Token is the token server of the private registry. Without a listen address it is served by the private
	// registry itself, under TokenPath.
	Token Endpoint

	// Puller may pull. Pusher may pull and push. The basic registry knows no permissions, only users,
	// and passwords of at most 72 bytes (that is bcrypt's limit).
	Puller Account
	Pusher Account
	// PullersFile, once WritePullers has written it, names those who may pull instead of Puller, and may change.
	PullersFile string

	// Log gets the access log. Nil discards it.
	Log io.Writer
	// Observe is called for each request, before its client gets the answer. May be nil; must be safe for
	// concurrent use.
	Observe func(Request)
}

// Registries are the running servers.
type Registries struct {
	// PrivateHost and BasicHost are what image references start with.
	PrivateHost string
	BasicHost   string

	servers []*http.Server
	closers []func() error
}

// Run serves until the context ends. It is meant to be the whole of a process: it also quietens Distribution's
// own log, which is one for the process and would say each request again.
func Run(ctx context.Context, o Options) error {
	logrus.SetLevel(logrus.WarnLevel)
	if o.Log != nil {
		logrus.SetOutput(o.Log)
	}
	registries, err := Start(o)
	if err != nil {
		return err
	}
	<-ctx.Done()
	return registries.Close()
}

// Start serves in the background until Close is called.
func Start(o Options) (_ *Registries, err error) {
	listeners, err := listen(&o)
	if err != nil {
		return nil, err
	}
	r := &Registries{}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll(listeners), r.Close())
		}
	}()
	r.PrivateHost, r.BasicHost = o.Private.Host, o.Basic.Host

	users, err := newAccounts(o)
	if err != nil {
		return nil, err
	}
	tokens, err := newTokenServer(o, users)
	if err != nil {
		return nil, err
	}
	private, closePrivate, err := newPrivate(o, tokens)
	if err != nil {
		return nil, err
	}
	r.closers = append(r.closers, closePrivate)
	basic, closeBasic, err := newBasic(o, users)
	if err != nil {
		return nil, err
	}
	r.closers = append(r.closers, closeBasic)

	observe := o.observer()
	handlers := map[string]http.Handler{
		Private: observed(Private, tokens.subject, observe, private),
		Token:   observed(Token, basicUser, observe, tokens),
		Basic:   observed(Basic, basicUser, observe, basic),
	}
	if listeners[Token] == nil {
		mux := http.NewServeMux()
		mux.Handle(TokenPath, handlers[Token])
		mux.Handle("/", handlers[Private])
		handlers[Private] = mux
	}
	for name, listener := range listeners {
		r.serve(listener, handlers[name])
	}
	return r, nil
}

// Close stops the servers at once, running requests included. The content stays.
func (r *Registries) Close() error {
	var group errgroup.Group
	for _, server := range r.servers {
		group.Go(server.Close)
	}
	err := group.Wait()
	for _, closer := range r.closers {
		err = errors.Join(err, closer())
	}
	return err
}

func (r *Registries) serve(listener net.Listener, handler http.Handler) {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	r.servers = append(r.servers, server)
	go server.Serve(listener) //nolint:errcheck // It ends with ErrServerClosed, after Close.
}

// listen binds all addresses and completes the hosts in the options by what was bound.
func listen(o *Options) (listeners map[string]net.Listener, err error) {
	listeners = map[string]net.Listener{}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll(listeners))
		}
	}()

	for _, server := range []struct {
		name     string
		endpoint *Endpoint
	}{{Private, &o.Private}, {Token, &o.Token}, {Basic, &o.Basic}} {
		if server.name == Token && server.endpoint.Listen == "" {
			o.Token.Host = o.Private.Host
			continue
		}
		listener, err := net.Listen("tcp", server.endpoint.Listen)
		if err != nil {
			return listeners, fmt.Errorf("listening for the %s registry: %w", server.name, err)
		}
		listeners[server.name] = listener
		server.endpoint.Host = completeHost(server.endpoint.Host, listener.Addr())
		tlsListener, err := o.CA.wrap(listener, server.endpoint.Host)
		if err != nil {
			return listeners, fmt.Errorf("making a certificate for the %s registry: %w", server.name, err)
		}
		listeners[server.name] = tlsListener
	}
	return listeners, nil
}

func closeAll(listeners map[string]net.Listener) error {
	var err error
	for _, listener := range listeners {
		err = errors.Join(err, listener.Close())
	}
	return err
}

func completeHost(host string, bound net.Addr) string {
	if host == "" {
		return bound.String()
	}
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	_, port, _ := net.SplitHostPort(bound.String()) // The listener's own address has a port.
	return net.JoinHostPort(host, port)
}
