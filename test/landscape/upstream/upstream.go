// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package upstream runs the landscape's upstream registries: two instances of test/upstreamsim with Distribution's
// handlers as their content.
//
// Both serve TLS. Private requires a bearer token of a token server, and Basic a user name and a password. The access
// log has a line for each request, with its user.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/upstreamsim"
)

// Names of the servers in the access log.
const (
	Private = "private"
	Token   = "token"
	Basic   = "basic"
)

const tokenLifetime = 5 * time.Minute

// Options describes both registries.
type Options struct {
	// Dir keeps the content over restarts.
	Dir string
	// Authority issues the servers' certificates.
	Authority *pki.Authority

	Private upstreamsim.Endpoint
	Basic   upstreamsim.Endpoint
	// Token is the address of the token server. By default, the private registry serves tokens itself.
	Token upstreamsim.Endpoint

	// Puller may pull. Pusher may pull and push.
	Puller upstreamsim.Account
	Pusher upstreamsim.Account
	// PullersFile, once WritePullers has written it, replaces Puller. It can change at any time.
	PullersFile string

	// Log receives the access log.
	Log io.Writer
	// Observe, if set, is called for each request, before the client gets the response, and concurrently. Kind Token
	// stands for a request to the token server.
	Observe func(server string, request upstreamsim.Request)
}

// Registries are the running registries.
type Registries struct {
	// PrivateHost and BasicHost are the host and port in image references.
	PrivateHost string
	BasicHost   string

	closers []func() error
}

// Run serves until the context ends. It owns the process: it silences Distribution's log, which is global and would
// repeat the access log.
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

// Start serves in the background until Close.
func Start(o Options) (_ *Registries, err error) {
	r := &Registries{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	users := newAccounts(o)
	r.PrivateHost, err = r.start(o, Private, upstreamsim.Options{
		Authentication: upstreamsim.Bearer, Accounts: users.all, TokenLifetime: tokenLifetime, Endpoint: o.Private, TokenEndpoint: o.Token,
	})
	if err != nil {
		return nil, err
	}
	r.BasicHost, err = r.start(o, Basic, upstreamsim.Options{Authentication: upstreamsim.Basic, Accounts: users.all, Endpoint: o.Basic})
	return r, err
}

// start starts one of the registries and returns its host.
func (r *Registries) start(o Options, name string, options upstreamsim.Options) (string, error) {
	content, shutdown, err := newDistribution(filepath.Join(o.Dir, name))
	if err != nil {
		return "", err
	}
	r.closers = append(r.closers, shutdown)
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	for _, endpoint := range []upstreamsim.Endpoint{options.Endpoint, options.TokenEndpoint} {
		for _, address := range []string{endpoint.Listen, endpoint.Host} {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				host = address
			}
			if host != "" {
				hosts = append(hosts, host)
			}
		}
	}
	pair, err := o.Authority.Issue(pki.Request{CommonName: name, Hosts: hosts})
	if err != nil {
		return "", fmt.Errorf("issue certificate for the %s registry: %w", name, err)
	}
	certificate, err := pair.TLS()
	if err != nil {
		return "", fmt.Errorf("issue certificate for the %s registry: %w", name, err)
	}
	options.Content, options.Certificate, options.Observe = content, &certificate, o.observer(name)
	registry, err := upstreamsim.Start(options)
	if err != nil {
		return "", fmt.Errorf("start the %s registry: %w", name, err)
	}
	r.closers = append(r.closers, func() error { registry.Close(); return nil })
	return registry.Host(), nil
}

// Close stops the registries at once and aborts their requests. The content stays.
func (r *Registries) Close() error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	return errors.Join(errs...)
}

// observer returns a function that logs and observes the requests of a registry.
func (o Options) observer(registry string) func(upstreamsim.Request) {
	log := slog.New(slog.DiscardHandler)
	if o.Log != nil {
		log = slog.New(slog.NewTextHandler(o.Log, nil))
	}
	return func(r upstreamsim.Request) {
		server := registry
		if r.Kind == upstreamsim.Token {
			server = Token
		}
		user := r.User
		if user == "" {
			user = "-"
		}
		log.LogAttrs(context.Background(), slog.LevelInfo, "request",
			slog.String("registry", server),
			slog.String("client", r.Client),
			slog.String("user", user),
			slog.String("method", r.Method),
			slog.String("path", r.Path),
			slog.Int("status", r.Status),
			slog.String("agent", r.Agent),
		)
		if o.Observe != nil {
			o.Observe(server, r)
		}
	}
}
