// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/health"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	cacheconfig "github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/pkg/cacheserver/status"
	"github.com/larder-project/larder/pkg/credentials"
)

// ErrDebugAddress means that the server cannot listen at the address of its debug endpoints.
var ErrDebugAddress = errors.New("http.debug.addr")

const (
	headerTimeout = 30 * time.Second
	idleTimeout   = 3 * time.Minute
)

// Run serves the cache of a configuration file until the context ends or the process receives a signal, and then waits
// for running downloads. Errors name the file and the cause in one line.
func Run(ctx context.Context, configPath string) error {
	config, err := Load(configPath)
	if err != nil {
		return err
	}
	configureLogging(config.Log)
	server, err := newServer(ctx, config, configPath)
	if err != nil {
		return fmt.Errorf("start with configuration %s: %w", configPath, err)
	}
	if err := server.serveUntilStopped(ctx, func() {}); err != nil {
		return fmt.Errorf("serve with configuration %s: %w", configPath, err)
	}
	return nil
}

// RunLocal serves a cache like Run, but without a configuration file and without REGISTRY_* variables. The credential
// stays in memory; the zero value means anonymous access. RunLocal calls ready as soon as clients can connect.
func RunLocal(ctx context.Context, described cacheconfig.Config, credential credentials.Credential, ready func(*Server)) error {
	config, err := build(described, credential)
	if err != nil {
		return err
	}
	configureLogging(config.Log)
	server, err := newServer(ctx, config, "")
	if err != nil {
		return err
	}
	return server.serveUntilStopped(ctx, func() { ready(server) })
}

// serveUntilStopped serves until the context ends or the process receives a signal; a second signal kills the process.
// Earlier signals kill the process at once, since it has no downloads to wait for.
func (s *Server) serveUntilStopped(ctx context.Context, ready func()) error {
	signaled, release := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer release()
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	context.AfterFunc(signaled, func() {
		release() // Before the server logs that it stops, so that any signal after that log line kills the process.
		stop()
	})
	ready()
	return s.Serve(serving)
}

// Server serves one cache, and its debug endpoints if they are enabled.
type Server struct {
	app    *handlers.App
	engine *pullthrough.Engine
	// certificate is nil if the server serves plain HTTP.
	certificate *certificateFile
	// expiry is the registered metric of the certificate.
	expiry       prometheus.Collector
	drainTimeout time.Duration
	api          endpoint
	debug        *endpoint
}

// endpoint is an HTTP server and its listener.
type endpoint struct {
	*http.Server
	listener net.Listener
	// secure makes the server serve TLS. TLSConfig is no indicator: serving plain HTTP also sets one.
	secure bool
}

// newServer creates a server from a validated configuration and binds its addresses. File is the path that the
// configuration was read from; if it is not empty, the engine follows changes of the credential in it.
func newServer(ctx context.Context, config *configuration.Configuration, file string) (_ *Server, err error) {
	tlsConfig, certificate, err := newTLSConfig(config.HTTP.TLS)
	if err != nil {
		return nil, err
	}
	app, engine, err := newApp(context.WithoutCancel(ctx), config, file)
	if err != nil {
		return nil, err
	}
	s := &Server{app: app, engine: engine, certificate: certificate, drainTimeout: config.HTTP.DrainTimeout}
	if s.drainTimeout == 0 {
		s.drainTimeout = cacheconfig.DrainTimeout
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()

	if err := s.exposeExpiry(); err != nil {
		return nil, err
	}
	checks := health.NewRegistry()
	app.RegisterHealthChecks(checks)

	s.api.Server = newHTTPServer(newHandler(config, registryHandler(config, app, engine), checks))
	engine.LimitClients(s.api.Server)
	if tlsConfig != nil && engine.RequestsCertificates() {
		// The engine verifies them. A handshake that failed would leave clients without a reason.
		tlsConfig.ClientAuth = tls.RequestClientCert
	}
	s.api.TLSConfig, s.api.secure = tlsConfig, tlsConfig != nil
	s.api.Protocols = protocols(config.HTTP)
	if s.api.listener, err = net.Listen("tcp", config.HTTP.Addr); err != nil {
		return nil, fmt.Errorf("http.addr: %w", err)
	}
	if config.HTTP.Debug.Addr != "" {
		s.debug = &endpoint{Server: newHTTPServer(pullthrough.API{}.ReadOnly(s.newDebugHandler(config.HTTP.Debug, checks)))}
		engine.LimitClients(s.debug.Server)
		if s.debug.listener, err = net.Listen("tcp", config.HTTP.Debug.Addr); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDebugAddress, err)
		}
	}
	return s, nil
}

// exposeExpiry registers the metric of the certificate until the server is closed.
func (s *Server) exposeExpiry() error {
	if s.certificate == nil {
		return nil
	}
	expiry := s.certificate.metric()
	if err := prometheus.Register(expiry); err != nil {
		return fmt.Errorf("http.tls: register metric: %w", err)
	}
	s.expiry = expiry
	return nil
}

// report returns the state of the server.
func (s *Server) report() status.Report {
	report := s.engine.Status()
	if s.certificate != nil {
		report.Certificate = &status.Certificate{NotAfter: s.certificate.notAfter()}
	}
	return report.Bounded()
}

// Addr returns the address of the registry API.
func (s *Server) Addr() string {
	return s.api.listener.Addr().String()
}

// DebugAddr returns the address of the debug endpoints, or an empty string if they are disabled.
func (s *Server) DebugAddr() string {
	if s.debug == nil {
		return ""
	}
	return s.debug.listener.Addr().String()
}

// Serve serves until the context ends and then drains: it accepts no new requests, and gives running ones the time of
// http.draintimeout. It serves health and metrics until it returns. It can be called once.
func (s *Server) Serve(ctx context.Context) error {
	failed := make(chan error, 2)
	if s.debug != nil {
		go func() { failed <- s.debug.serve() }()
	}
	go func() { failed <- s.api.serve() }()
	log := logrus.WithFields(logrus.Fields{"address": s.Addr(), "tls": s.api.secure})
	if s.debug != nil {
		log = log.WithField("debugAddress", s.DebugAddr())
	}
	log.Info("Serving")

	select {
	case err := <-failed:
		return errors.Join(err, s.close())
	case <-ctx.Done():
		logrus.WithField("timeout", s.drainTimeout.String()).Info("Stopping after running downloads")
		return errors.Join(s.drain(), s.close())
	}
}

func (s *Server) drain() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.drainTimeout)
	defer cancel()
	if err := s.api.Shutdown(ctx); err != nil {
		if !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		logrus.Warn("Aborted downloads that took longer than http.draintimeout")
	}
	return nil
}

// close closes all connections and shuts down the application.
func (s *Server) close() error {
	if s.expiry != nil {
		prometheus.Unregister(s.expiry)
	}
	var group errgroup.Group
	group.Go(s.api.close)
	if s.debug != nil {
		group.Go(s.debug.close)
	}
	return errors.Join(group.Wait(), s.app.Shutdown())
}

func (e *endpoint) serve() error {
	serve := e.Serve
	if e.secure {
		serve = func(listener net.Listener) error { return e.ServeTLS(listener, "", "") }
	}
	if err := serve(e.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", e.listener.Addr(), err)
	}
	return nil
}

func (e *endpoint) close() error {
	if e.listener == nil {
		return nil
	}
	// A server that never served does not know its listener; one that did has already closed it.
	return errors.Join(e.Close(), ignoreClosed(e.listener.Close()))
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// newHTTPServer sets no limit on the duration of a request: a large layer takes long on a slow connection.
func newHTTPServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          connectionLog(),
	}
}

func protocols(config configuration.HTTP) *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(!config.HTTP2.Disabled)
	protocols.SetUnencryptedHTTP2(config.H2C.Enabled)
	return protocols
}
