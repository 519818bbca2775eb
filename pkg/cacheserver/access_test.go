// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/test/landscape/upstream"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("restricted access", func() {
	var (
		w     *world
		cache *cache
		alice = upstreamsim.Account{Username: "alice", Password: "alice-canary", Repositories: []string{"team"}}
		bob   = upstreamsim.Account{Username: "bob", Password: "bob-canary", Repositories: []string{"team", "other"}}
		none  upstreamsim.Account
	)

	pull := func(a upstreamsim.Account, reference string) (v1.Hash, error) {
		return upstream.Client{Account: a, CA: w.authority.Certificate}.Pull(context.Background(), cache.Address()+"/"+reference)
	}
	write := func(name string, content []byte) string {
		GinkgoHelper()
		path := filepath.Join(w.dir, name)
		Expect(os.WriteFile(path+".new", content, 0o600)).To(Succeed())
		Expect(os.Rename(path+".new", path)).To(Succeed())
		return path
	}
	// accounts writes the account builder, with passwords of which the first is the current one.
	accounts := func(repositories []string, passwords ...string) string {
		GinkgoHelper()
		account := config.Account{Name: "builder", Repositories: repositories}
		for i, password := range passwords {
			var notAfter *time.Time
			if i > 0 {
				notAfter = new(time.Now().Add(time.Hour))
			}
			account.Passwords = append(account.Passwords, config.HashPassword(password, notAfter))
		}
		content, err := config.Accounts{Accounts: []config.Account{account}}.Marshal()
		Expect(err).NotTo(HaveOccurred())
		return write("accounts.json", content)
	}
	builder := func(password string) upstreamsim.Account {
		return upstreamsim.Account{Username: config.AccountPrefix + "builder", Password: password}
	}
	// restricted is the configuration of a cache with a credential that may read everything.
	restricted := func(access config.Access) config.Config {
		c := w.config(upstream.Private)
		c.TLS = w.issue(filepath.Join(w.dir, "tls"))
		c.Access = &access
		return c
	}

	BeforeEach(func() {
		w = newWorld()
		Expect(upstream.WritePullers(w.pullersFile(), robot, alice, bob)).To(Succeed())
	})

	AfterEach(func() {
		cache.stop()
		output := string(append(cache.Out.Contents(), cache.Err.Contents()...))
		Expect(output).NotTo(ContainSubstring("canary"))
		Expect(output).NotTo(MatchRegexp("(?i)basic [a-z0-9]"))
	})

	It("lets clients of a registry pull what their pull secrets open, with one fetch for all", func() {
		image, other := w.push(upstream.Private, app, 1<<20), w.push(upstream.Private, "other/app:v1", 1024)
		cache = w.start(restricted(config.Access{Mode: config.AccessPullSecrets}), "REGISTRY_LOG_LEVEL=debug")
		w.requests.Reset()
		Expect(pull(alice, app)).To(Equal(digestOf(image)))
		Expect(pull(bob, app)).To(Equal(digestOf(image)))
		Expect(w.requests.Requests(upstreamsim.BlobGet)).To(HaveEach(HaveField("User", Or(Equal(robot.Username), BeEmpty()))), "the cache pays")
		served := 0
		for _, request := range w.requests.Requests(upstreamsim.BlobGet) {
			if request.Status == http.StatusOK {
				served++
			}
		}
		Expect(served).To(Equal(2), "one configuration and one layer")
		Expect(pull(bob, "other/app:v1")).To(Equal(digestOf(other)))
		for _, a := range []upstreamsim.Account{alice, none, {Username: "alice", Password: "wrong-canary"}} {
			_, err := pull(a, "other/app:v1")
			Expect(err).To(HaveOccurred())
		}
		_, metrics := cache.debug("/metrics")
		Expect(metrics).NotTo(ContainSubstring("other/app"))
		Expect(metrics).To(ContainSubstring(`registry_proxy_access_requests_total{result="denied"}`))
		status, _ := cache.debug("/debug/health")
		Expect(status).To(Equal(http.StatusOK))
		for _, path := range []string{"/debug/", "/debug", config.StatusPath, config.CredentialsPath, "/", "/v2/"} {
			status, body := cache.debug(path)
			Expect(status).To(Equal(http.StatusUnauthorized), path)
			Expect(body).To(Equal("Unauthorized\n"), path)
		}
	})

	It("shows its state to those with the token", func() {
		token := write("debug-token", []byte(rand.Text()))
		cache = w.start(restricted(config.Access{Mode: config.AccessPullSecrets, DebugTokenFile: token}))
		ask := func(change func(*http.Request)) int {
			GinkgoHelper()
			request, err := http.NewRequest(http.MethodGet, "http://"+cache.DebugAddress()+config.StatusPath, nil)
			Expect(err).NotTo(HaveOccurred())
			change(request)
			response, err := http.DefaultClient.Do(request)
			Expect(err).NotTo(HaveOccurred())
			Expect(response.Body.Close()).To(Succeed())
			return response.StatusCode
		}
		content, err := os.ReadFile(token)
		Expect(err).NotTo(HaveOccurred())
		withHeader := func(r *http.Request) { r.Header.Set(config.DebugTokenHeader, string(content)) }
		Expect(ask(withHeader)).To(Equal(http.StatusOK))
		Expect(ask(func(r *http.Request) { r.SetBasicAuth("me", string(content)) })).To(Equal(http.StatusOK))
		Expect(ask(func(*http.Request) {})).To(Equal(http.StatusUnauthorized))
		Expect(ask(func(r *http.Request) { r.Header.Set(config.DebugTokenHeader, "x") })).To(Equal(http.StatusUnauthorized))
		write("debug-token", []byte(rand.Text()))
		Expect(ask(withHeader)).To(Equal(http.StatusUnauthorized))
	})

	It("lets accounts of the cache pull what their lists contain, during and after a rotation", func() {
		image := w.push(upstream.Private, app, 1024)
		w.push(upstream.Private, "teams/app:v1", 1024)
		file := accounts([]string{"team"}, "first-canary")
		cache = w.start(restricted(config.Access{Mode: config.AccessPullSecrets, AccountsFile: file}))
		w.requests.Reset()
		Expect(pull(builder("first-canary"), app)).To(Equal(digestOf(image)))
		for _, a := range []upstreamsim.Account{builder("second-canary"), {Username: config.AccountPrefix + "x", Password: "first-canary"}} {
			_, err := pull(a, app)
			Expect(err).To(HaveOccurred())
		}
		_, err := pull(builder("first-canary"), "teams/app:v1")
		Expect(err).To(HaveOccurred())
		for _, request := range w.requests.Requests() {
			Expect(request.User).NotTo(HavePrefix(config.AccountPrefix), "the upstream sees no account")
		}
		accounts([]string{"team"}, "second-canary", "first-canary")
		Expect(pull(builder("first-canary"), app)).To(Equal(digestOf(image)))
		Expect(pull(builder("second-canary"), app)).To(Equal(digestOf(image)))
		accounts([]string{"team"}, "second-canary")
		_, err = pull(builder("first-canary"), app)
		Expect(err).To(HaveOccurred())
		write("accounts.json", []byte(`{"accounts":[]}`))
		_, err = pull(builder("second-canary"), app)
		Expect(err).To(HaveOccurred())
	})

	Describe("to nodes", func() {
		var nodes, renewed *pki.Authority
		certificate := func(authority *pki.Authority, usage x509.ExtKeyUsage) func(*tls.Config) {
			GinkgoHelper()
			pair, err := authority.Issue(pki.Request{CommonName: "node", Usages: []x509.ExtKeyUsage{usage}})
			Expect(err).NotTo(HaveOccurred())
			issued, err := pair.TLS()
			Expect(err).NotTo(HaveOccurred())
			return func(c *tls.Config) { c.Certificates = []tls.Certificate{issued} }
		}
		status := func(path string, change func(*tls.Config)) int {
			GinkgoHelper()
			response, err := cache.get(path, change)
			Expect(err).NotTo(HaveOccurred(), "a handshake never fails")
			return response.StatusCode
		}

		BeforeEach(func() {
			var err error
			nodes, err = pki.NewAuthority("nodes")
			Expect(err).NotTo(HaveOccurred())
			renewed, err = pki.NewAuthority("nodes")
			Expect(err).NotTo(HaveOccurred())
		})

		It("serves clients with a certificate of an authority that is trusted at the time, and accounts", func() {
			image := w.push(upstream.Private, app, 1024)
			bundle := write("nodes.crt", nodes.Certificate)
			cache = w.start(restricted(config.Access{
				Mode: config.AccessNodes, ClientCAFile: bundle, AccountsFile: accounts([]string{"team"}, "first-canary"),
			}))
			paths := []string{"/v2/", "/v2/team/app/manifests/v1", "/v2/team/app/manifests/" + digestOf(image).String(), "/v2/team/app/tags/list"}
			node := certificate(nodes, x509.ExtKeyUsageClientAuth)
			for _, path := range paths {
				Expect(status(path, node)).To(Equal(http.StatusOK), path)
			}
			Expect(status("/v2/_catalog", node)).To(Equal(http.StatusForbidden))
			for _, change := range []func(*tls.Config){
				nil, certificate(nodes, x509.ExtKeyUsageServerAuth), certificate(renewed, x509.ExtKeyUsageClientAuth),
				certificate(w.authority, x509.ExtKeyUsageClientAuth),
			} {
				for _, path := range append(paths, "/v2/_catalog", "/v2", "/metrics", "/debug/", "/x", "/v2/team/app/blobs/uploads/") {
					Expect(status(path, change)).To(Equal(http.StatusUnauthorized), path)
				}
				Expect(status("/", change)).To(Equal(http.StatusOK), "the liveness endpoint")
			}
			Expect(pull(builder("first-canary"), app)).To(Equal(digestOf(image)))
			_, err := pull(alice, app)
			Expect(err).To(HaveOccurred())

			after := certificate(renewed, x509.ExtKeyUsageClientAuth)
			write("nodes.crt", append(nodes.Certificate, renewed.Certificate...))
			Expect(status(paths[1], node)).To(Equal(http.StatusOK))
			Expect(status(paths[1], after)).To(Equal(http.StatusOK))
			write("nodes.crt", renewed.Certificate)
			Expect(status(paths[1], node)).To(Equal(http.StatusUnauthorized))
			Expect(status(paths[1], after)).To(Equal(http.StatusOK))
		})

		It("verifies each request of a connection, whatever the handshake was", func() {
			w.push(upstream.Private, app, 1024)
			bundle := write("nodes.crt", nodes.Certificate)
			cache = w.start(restricted(config.Access{Mode: config.AccessNodes, ClientCAFile: bundle}))
			roots := x509.NewCertPool()
			Expect(roots.AppendCertsFromPEM(w.authority.Certificate)).To(BeTrue())
			settings := &tls.Config{RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			certificate(nodes, x509.ExtKeyUsageClientAuth)(settings)
			for _, kept := range []bool{true, false} {
				write("nodes.crt", nodes.Certificate)
				client := &http.Client{Transport: &http.Transport{TLSClientConfig: settings, DisableKeepAlives: !kept}}
				ask := func() int {
					GinkgoHelper()
					response, err := client.Head("https://" + cache.Address() + "/v2/team/app/manifests/v1")
					Expect(err).NotTo(HaveOccurred())
					Expect(response.Body.Close()).To(Succeed())
					return response.StatusCode
				}
				for range 3 {
					Expect(ask()).To(Equal(http.StatusOK))
				}
				write("nodes.crt", renewed.Certificate)
				Expect(ask()).To(Equal(http.StatusUnauthorized))
				client.CloseIdleConnections()
			}
		})
	})
})
