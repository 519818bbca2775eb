// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cloudsim

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/upstreamsim"
)

// Options describe a simulated cloud.
type Options struct {
	// Authority issues the certificates of the services.
	Authority *pki.Authority
	// Lifetime is the lifetime of credentials for registries. The default is an hour.
	Lifetime time.Duration
	// Skew is how far the clocks of the services are ahead of the local clock.
	Skew time.Duration
	// Registries are the addresses of registries behind the proxy, by their host.
	Registries map[string]string
	// ProxyAccount is the account that the proxy requires; without a user name, it requires none.
	ProxyAccount upstreamsim.Account
	// Address is the IP address of the services and the proxy. The default is 127.0.0.1.
	Address string
	// Listen and Dial replace net.Listen and net.Dial, for a cloud in another network namespace.
	Listen func(network, address string) (net.Listener, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

// Failure is an error that an operation returns.
type Failure struct {
	Status int
	// Code is the code of the service; empty means a body that no service returns.
	Code string
	// RetryAfter is the header Retry-After; empty means none.
	RetryAfter string
	// Redirect is the header Location; empty means none.
	Redirect string
}

// Cloud is a simulated cloud.
type Cloud struct {
	options  Options
	services net.Listener
	proxy    net.Listener
	servers  []*http.Server

	mu    sync.Mutex
	keys  map[string]key
	roles map[string]string // trusted subjects by ARN; an access key's ID is its subject
	// externalIDs are those that roles require, by ARN.
	externalIDs map[string]string
	issued      []issued
	federal     map[string]string // subjects by token that Google or Entra issued
	failures    map[string]Failure
	counts      map[string]int
	hosts       map[string]int
	secret      []byte

	certificates map[string]*tls.Certificate
}

// issued is a credential for a registry.
type issued struct {
	account upstreamsim.Account
	expires time.Time
}

// Start starts the services and the proxy.
func Start(options Options) (_ *Cloud, err error) {
	if options.Listen == nil {
		options.Listen = net.Listen
	}
	if options.Dial == nil {
		options.Dial = (&net.Dialer{}).DialContext
	}
	options.Address = cmp.Or(options.Address, "127.0.0.1")
	options.Lifetime = cmp.Or(options.Lifetime, time.Hour)
	c := &Cloud{
		options: options, keys: map[string]key{}, roles: map[string]string{}, externalIDs: map[string]string{}, federal: map[string]string{},
		failures: map[string]Failure{}, counts: map[string]int{}, hosts: map[string]int{}, secret: []byte(rand.Text()),
		certificates: map[string]*tls.Certificate{},
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	anyPort := net.JoinHostPort(options.Address, "0")
	if c.services, err = options.Listen("tcp", anyPort); err != nil {
		return nil, fmt.Errorf("start services: %w", err)
	}
	if c.proxy, err = options.Listen("tcp", anyPort); err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	c.serve(tls.NewListener(c.services, &tls.Config{GetCertificate: c.certificate, MinVersion: tls.VersionTLS12}), c)
	c.serve(c.proxy, http.HandlerFunc(c.connect))
	return c, nil
}

// certificate issues the certificate of a service. The clients choose the services.
func (c *Cloud) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := cmp.Or(hello.ServerName, c.options.Address)
	c.mu.Lock()
	defer c.mu.Unlock()
	if certificate, ok := c.certificates[name]; ok {
		return certificate, nil
	}
	pair, err := c.options.Authority.Issue(pki.Request{CommonName: "cloud", Hosts: []string{name}})
	if err != nil {
		return nil, err
	}
	certificate, err := pair.TLS()
	if err != nil {
		return nil, err
	}
	c.certificates[name] = &certificate
	return &certificate, nil
}

func (c *Cloud) serve(listener net.Listener, handler http.Handler) {
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second}
	c.servers = append(c.servers, server)
	go func() { _ = server.Serve(listener) }()
}

// Close stops the services and the proxy.
func (c *Cloud) Close() {
	for _, server := range c.servers {
		_ = server.Close()
	}
}

// URL returns the URL of the services.
func (c *Cloud) URL() string { return "https://" + c.services.Addr().String() }

// ProxyURL returns the URL of the proxy.
func (c *Cloud) ProxyURL() string { return "http://" + c.proxy.Addr().String() }

// CA returns the CA of the services, in PEM.
func (c *Cloud) CA() []byte { return c.options.Authority.Certificate }

// Accounts returns the valid credentials for registries.
func (c *Cloud) Accounts() []upstreamsim.Account {
	c.mu.Lock()
	defer c.mu.Unlock()
	var accounts []upstreamsim.Account
	for _, i := range c.issued {
		if time.Now().Before(i.expires) {
			accounts = append(accounts, i.account)
		}
	}
	return accounts
}

// Revoke makes all credentials for registries invalid.
func (c *Cloud) Revoke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.issued = nil
}

// SetLifetime changes the lifetime of the credentials that are issued from now on.
func (c *Cloud) SetLifetime(lifetime time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.options.Lifetime = lifetime
}

// Fail makes an operation fail until Fail is called with the zero value.
func (c *Cloud) Fail(operation string, failure Failure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures[operation] = failure
}

// Requests returns the number of requests by operation.
func (c *Cloud) Requests() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.counts)
}

// Hosts returns the number of connections through the proxy by host.
func (c *Cloud) Hosts() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.hosts)
}

// now returns the time by the clocks of the services.
func (c *Cloud) now() time.Time { return time.Now().Add(c.options.Skew) }

// issue issues a credential for registries, and returns its expiry by the clocks of the services.
func (c *Cloud) issue(username, password string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	expires := time.Now().Add(c.options.Lifetime)
	c.issued = append(c.issued, issued{account: upstreamsim.Account{Username: username, Password: password}, expires: expires})
	return expires.Add(c.options.Skew)
}

// begin counts a request and returns the failure of its operation.
func (c *Cloud) begin(operation string) (Failure, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[operation]++
	failure := c.failures[operation]
	return failure, failure.Status != 0
}

// fail sends a failure, with the body of its service.
func fail(w http.ResponseWriter, failure Failure, body string) {
	if failure.RetryAfter != "" {
		w.Header().Set("Retry-After", failure.RetryAfter)
	}
	if failure.Redirect != "" {
		w.Header().Set("Location", failure.Redirect)
	}
	if failure.Code == "" {
		body = "<html>Blocked by the proxy of the company</html>"
	}
	w.WriteHeader(failure.Status)
	_, _ = io.WriteString(w, body)
}

const maxBody = 1 << 20

// ServeHTTP serves a request by the host that it is for, since the services share an address. A registry of Azure passes
// requests to its exchange on.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", c.now().UTC().Format(http.TimeFormat))
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil || r.Method != http.MethodPost {
		http.Error(w, "cannot read the request", http.StatusBadRequest)
		return
	}
	host, _, _ := strings.Cut(r.Host, ":")
	switch {
	case strings.HasSuffix(host, ".googleapis.com"):
		c.serveGoogle(w, r, body)
	case strings.HasPrefix(host, "login."):
		c.serveEntra(w, r, body)
	case strings.Contains(host, ".azurecr."):
		c.serveACR(w, r, host, body)
	default:
		c.serveAWS(w, r, body)
	}
}

// connect is the forward proxy.
func (c *Cloud) connect(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
		return
	}
	if account := c.options.ProxyAccount; account.Username != "" {
		pair := base64.StdEncoding.EncodeToString([]byte(account.Username + ":" + account.Password))
		if r.Header.Get("Proxy-Authorization") != "Basic "+pair {
			w.Header().Set("Proxy-Authenticate", `Basic realm="proxy"`)
			http.Error(w, "credential required", http.StatusProxyAuthRequired)
			return
		}
	}
	host, _, _ := net.SplitHostPort(r.Host)
	c.mu.Lock()
	c.hosts[host]++
	c.mu.Unlock()
	address, ok := c.options.Registries[host]
	if !ok {
		address = c.services.Addr().String()
	}
	backend, err := c.options.Dial(r.Context(), "tcp", address)
	if err != nil {
		http.Error(w, "cannot connect", http.StatusBadGateway)
		return
	}
	defer func() { _ = backend.Close() }()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = client.Close() }()
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	pipe := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from)
		done <- struct{}{}
	}
	go pipe(backend, buffered)
	go pipe(client, backend)
	<-done
}

func number(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
