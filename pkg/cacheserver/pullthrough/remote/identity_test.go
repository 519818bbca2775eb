// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/connection"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/test/pki"
)

var _ = Describe("Client certificate", func() {
	var (
		registry, elsewhere *httptest.Server
		options             remote.Options

		mu sync.Mutex
		// identified has whether a certificate was presented, by server and path.
		identified map[string]bool
	)

	// serve starts a server that asks for a client certificate but does not require it.
	serve := func(authority *pki.Authority, name, address string, handler http.HandlerFunc) *httptest.Server {
		GinkgoHelper()
		pair, err := authority.Issue(pki.Request{CommonName: name, Hosts: []string{address}})
		Expect(err).NotTo(HaveOccurred())
		certificate, err := pair.TLS()
		Expect(err).NotTo(HaveOccurred())
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			identified[name+r.URL.Path] = len(r.TLS.PeerCertificates) > 0
			mu.Unlock()
			handler(w, r)
		}))
		server.Listener.Close()
		server.Listener, err = net.Listen("tcp", address+":0")
		Expect(err).NotTo(HaveOccurred())
		server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequestClientCert}
		server.StartTLS()
		DeferCleanup(server.Close)
		return server
	}

	BeforeEach(func() {
		identified = map[string]bool{}
		authority, err := pki.NewAuthority("upstream")
		Expect(err).NotTo(HaveOccurred())
		registry = serve(authority, "registry", "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasPrefix(r.URL.Path, "/v2/public/"), r.URL.Path == "/back", r.URL.Path == "/within/target":
			case strings.HasPrefix(r.URL.Path, "/v2/within/"):
				http.Redirect(w, r, "/within/target", http.StatusTemporaryRedirect)
			case strings.HasPrefix(r.URL.Path, "/v2/away/"):
				http.Redirect(w, r, elsewhere.URL+"/target", http.StatusTemporaryRedirect)
			case strings.HasPrefix(r.URL.Path, "/v2/back/"):
				http.Redirect(w, r, elsewhere.URL+"/back", http.StatusTemporaryRedirect)
			case r.Header.Get("Authorization") == "":
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="s"`, elsewhere.URL))
				w.WriteHeader(http.StatusUnauthorized)
			default:
				w.Header().Set("Content-Type", "application/octet-stream")
			}
		})
		elsewhere = serve(authority, "elsewhere", "127.0.0.2", func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/back":
				http.Redirect(w, r, registry.URL+"/back", http.StatusTemporaryRedirect)
			case "/token":
				_, _ = w.Write([]byte(`{"token":"t"}`))
			}
		})
		dir := GinkgoT().TempDir()
		client, err := authority.Issue(pki.Request{CommonName: "client"})
		Expect(err).NotTo(HaveOccurred())
		for name, content := range map[string][]byte{"ca.crt": authority.Certificate, "tls.crt": client.Certificate, "tls.key": client.Key} {
			Expect(os.WriteFile(filepath.Join(dir, name), content, 0o600)).To(Succeed())
		}
		options = remote.Options{
			URL: registry.URL, Observer: newObserver(),
			Timeouts:   remote.Timeouts{Connect: time.Minute, FirstByte: time.Minute, Idle: time.Minute},
			Connection: connection.Files{CABundle: filepath.Join(dir, "ca.crt"), ClientCertificate: filepath.Join(dir, "tls.crt"), ClientKey: filepath.Join(dir, "tls.key")},
		}
	})

	fetch := func(ctx context.Context, repository string) {
		GinkgoHelper()
		c, err := remote.New(options)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(c.Close)
		b, err := c.FetchBlob(ctx, repository, blob, remote.Position{})
		Expect(err).NotTo(HaveOccurred())
		Expect(b.Body.Close()).To(Succeed())
	}
	path := func(repository string) string { return "registry/v2/" + repository + "/blobs/" + blob.String() }

	It("is presented to the registry, also when it redirects to itself", func(ctx context.Context) {
		fetch(ctx, "within")
		Expect(identified).To(Equal(map[string]bool{path("within"): true, "registry/within/target": true}))
	})

	It("is not presented to the target of a redirect, whether that asks for it or not", func(ctx context.Context) {
		fetch(ctx, "away")
		Expect(identified).To(Equal(map[string]bool{path("away"): true, "elsewhere/target": false}))
	})

	It("is not presented when another host redirects back to the registry", func(ctx context.Context) {
		fetch(ctx, "back")
		Expect(identified).To(Equal(map[string]bool{path("back"): true, "elsewhere/back": false, "registry/back": false}))
	})

	It("is presented to an allowed token server", func(ctx context.Context) {
		options.AllowedRealms = []string{"127.0.0.2"}
		fetch(ctx, "private")
		Expect(identified).To(Equal(map[string]bool{path("private"): true, "elsewhere/token": true}))
	})

	It("is not presented to a token server that issues anonymous tokens elsewhere", func(ctx context.Context) {
		fetch(ctx, "private")
		Expect(identified).To(Equal(map[string]bool{path("private"): true, "elsewhere/token": false}))
	})

	It("is presented neither for a guest nor for anyone, who may see less than the cache", func(ctx context.Context) {
		options.AllowedRealms = []string{"127.0.0.2"}
		guest := credentials.Credential{Username: "guest", Password: "secret"}
		options.Guests = onlyGuest{guest}
		c, err := remote.New(options)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(c.Close)
		for _, credential := range []credentials.Credential{{}, guest} {
			clear(identified)
			_, err := c.Authorize(ctx, "private", "blobs/"+blob.String(), credential, time.Minute)
			Expect(err).NotTo(HaveOccurred())
			Expect(identified).To(Equal(map[string]bool{path("private"): false, "elsewhere/token": false}))
		}
		clear(identified)
		b, err := c.FetchBlob(ctx, "private", blob, remote.Position{})
		Expect(err).NotTo(HaveOccurred())
		Expect(b.Body.Close()).To(Succeed())
		Expect(identified).To(HaveKeyWithValue(path("private"), false), "a token that the certificate helped to get would prove too much later")
	})
})

// onlyGuest pays for all repositories.
type onlyGuest struct{ credential credentials.Credential }

func (g onlyGuest) For(_ string, rejected []credentials.Credential) (credentials.Credential, bool) {
	return g.credential, len(rejected) == 0
}

func (onlyGuest) Rejected(string, credentials.Credential) {}
