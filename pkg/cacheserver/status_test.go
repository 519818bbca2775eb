// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/status"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/test/landscape/upstream"
	"github.com/larder-project/larder/test/upstreamsim"
)

// status returns the report of the server.
func (c *cache) status(g Gomega) status.Report {
	code, body := c.debug(config.StatusPath)
	g.Expect(code).To(Equal(http.StatusOK))
	var report status.Report
	g.Expect(json.Unmarshal([]byte(body), &report)).To(Succeed())
	return report
}

var _ = Describe("status", func() {
	var w *world

	BeforeEach(func() { w = newWorld() })

	It("reports the upstream, the storage and the credential", func() {
		w.push(upstream.Private, app, 1<<20)
		cache := w.start(w.config(upstream.Private))
		_, err := cache.pull(app)
		Expect(err).NotTo(HaveOccurred())
		Eventually(cache.status).Should(And(
			HaveField("Upstream.Host", w.host(upstream.Private)),
			HaveField("Upstream.Reachable", true),
			HaveField("Storage.Used", BeNumerically(">", 1<<20)),
			HaveField("Storage.Size", BeNumerically(">", 1<<20)),
			HaveField("Storage.Bypassing", false),
			HaveField("Credentials.SecretName", "robot-v1"),
			HaveField("Credentials.State", credentials.StateActive),
			HaveField("Certificate", BeNil()),
		))
		_, metrics := cache.debug("/metrics")
		Expect(metrics).NotTo(ContainSubstring("registry_proxy_certificate_expiry_seconds"), "it serves plain HTTP")
	})

	It("shows people what was pulled, with the numbers of the metrics", func() {
		w.push(upstream.Private, app, 1<<20)
		cache := w.start(w.config(upstream.Private))
		for range 2 {
			_, err := cache.pull(app)
			Expect(err).NotTo(HaveOccurred())
		}
		var page string
		Eventually(func() string {
			_, page = cache.debug("/debug/")
			return page
		}).Should(And(
			ContainSubstring("<h1>"+w.host(upstream.Private)+"</h1>"),
			ContainSubstring("Secret <b>robot-v1</b>, active"),
			ContainSubstring(">accepted</span>"),
			ContainSubstring("team/app:v1"),
			ContainSubstring(">miss</span>"),
			ContainSubstring(`<th scope="row" class="image">team/app</th>`),
		))
		// A request is counted after its response.
		Eventually(func(g Gomega) {
			_, metrics := cache.debug("/metrics")
			hits, requests := 0, 0
			for _, kind := range []string{"blob", "manifest"} {
				count := func(outcome event.Outcome) int {
					n, err := strconv.Atoi(match(metrics, `registry_proxy_outcomes_total\{outcome="`+string(outcome)+`",type="`+kind+`"\} (\d+)`))
					g.Expect(err).NotTo(HaveOccurred())
					return n
				}
				hits += count(event.Hit)
				requests += count(event.Hit) + count(event.Miss) + count(event.Joined)
			}
			g.Expect(hits).To(BeNumerically(">", 0))
			_, page = cache.debug("/debug/")
			g.Expect(page).To(ContainSubstring("%d of %d requests", hits, requests))
		}).Should(Succeed())
	})

	It("redirects to the page, and serves it only to readers", func() {
		cache := w.start(w.config(upstream.Private))
		url := "http://" + cache.DebugAddress()
		response, err := http.Get(url + "/debug")
		Expect(err).NotTo(HaveOccurred())
		Expect(response.Body.Close()).To(Succeed())
		Expect(response.Request.URL.Path).To(Equal("/debug/"))
		Expect(response).To(And(HaveHTTPStatus(http.StatusOK), HaveHTTPHeaderWithValue("Cache-Control", "no-store")))
		for _, path := range []string{"/debug/", config.StatusPath} {
			response, err = http.Head(url + path)
			Expect(err).NotTo(HaveOccurred())
			Expect(response.Body.Close()).To(Succeed())
			Expect(response).To(HaveHTTPStatus(http.StatusOK))
			response, err = http.Post(url+path, "text/plain", nil)
			Expect(err).NotTo(HaveOccurred())
			Expect(response.Body.Close()).To(Succeed())
			Expect(response).To(HaveHTTPStatus(http.StatusMethodNotAllowed))
		}
		status, _ := cache.debug("/debug/other")
		Expect(status).To(Equal(http.StatusNotFound))
	})

	It("follows the certificate that the server presents, without a handshake", func() {
		dir := GinkgoT().TempDir()
		c := w.config(upstream.Private)
		c.TLS = w.issueFor(dir, 2*time.Hour)
		cache := w.start(c)
		expiry := func() time.Time {
			_, metrics := cache.debug("/metrics")
			seconds, err := strconv.ParseFloat(match(metrics, `\nregistry_proxy_certificate_expiry_seconds (\S+)`), 64)
			Expect(err).NotTo(HaveOccurred())
			return time.Unix(int64(seconds), 0)
		}
		presented := func() time.Time {
			response, err := cache.get("/v2/", func(config *tls.Config) { config.ServerName = "127.0.0.1" })
			Expect(err).NotTo(HaveOccurred())
			return response.TLS.PeerCertificates[0].NotAfter
		}
		agree := func() {
			GinkgoHelper()
			before := expiry()
			report := cache.status(Default)
			Expect(report.Certificate.NotAfter).To(BeTemporally("==", before))
			Expect(presented()).To(BeTemporally("==", before))
		}
		agree()
		first := expiry()
		Expect(first).To(BeTemporally("~", time.Now().Add(2*time.Hour), 5*time.Minute))

		w.issueFor(dir, 48*time.Hour)
		Expect(expiry()).To(BeTemporally(">", first.Add(40*time.Hour)))
		agree()

		By("keeping the expiry of the last good certificate")
		renewed := expiry()
		Expect(os.Remove(filepath.Join(dir, "tls.key"))).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, "tls.key"), []byte("garbage"), 0o600)).To(Succeed())
		Expect(expiry()).To(Equal(renewed))
		agree()
	})

	Describe("with a secret in every place", func() {
		const canary = "c4n4ry-s3cret"
		account := upstreamsim.Account{Username: "robot", Password: canary}
		basic := base64.StdEncoding.EncodeToString([]byte(account.Username + ":" + canary))

		// echo sends what the request authenticates with in all places of a response.
		echo := func(status int) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				_, password, _ := r.BasicAuth()
				seen := password + " " + r.Header.Get("Authorization") + r.Header.Get("Proxy-Authorization")
				w.Header().Set("WWW-Authenticate", `Basic realm="`+canary+`"`)
				w.Header().Set("Location", "http://"+r.Host+"/elsewhere?token="+canary+"&seen="+basic)
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Docker-Content-Digest", canary)
				w.WriteHeader(status)
				_, _ = fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":%q,"detail":%q}]}`, seen+canary, seen+basic)
			}
		}

		DescribeTable("shows none if", func(handler http.HandlerFunc, change func(c *config.Config, url string) []string) {
			server := httptest.NewServer(handler)
			DeferCleanup(server.Close)
			c := w.config(upstream.Private)
			w.writeCredential(named("robot-v2", account), new(named("robot-v1", account)))
			c.RemoteURL = server.URL
			var env []string
			if change != nil {
				env = change(&c, server.URL)
			}
			cache := w.start(c, append(env, "REGISTRY_LOG_LEVEL=debug")...)
			for _, path := range []string{"/manifests/v1", "/manifests/v1?token=" + canary, "/blobs/sha256:" + digestOfNothing, "/tags/list?last=" + canary, "/referrers/sha256:" + digestOfNothing + "?artifactType=" + canary} {
				request, err := http.NewRequest(http.MethodGet, "http://"+cache.Address()+"/v2/team/app"+path, nil)
				Expect(err).NotTo(HaveOccurred())
				request.SetBasicAuth("node", canary)
				request.Header.Set("X-Forwarded-For", canary)
				response, err := http.DefaultClient.Do(request)
				Expect(err).NotTo(HaveOccurred())
				Expect(response.Body.Close()).To(Succeed())
			}
			Eventually(func() string {
				_, body := cache.debug("/debug/")
				return body
			}).Should(ContainSubstring("team/app"))
			for _, path := range []string{"/debug/", config.StatusPath, config.CredentialsPath, "/metrics"} {
				_, body := cache.debug(path)
				Expect(body).NotTo(Or(ContainSubstring(canary), ContainSubstring(basic)), path)
			}
		},
			Entry("the upstream rejects the credential and echoes it", echo(http.StatusUnauthorized), nil),
			Entry("the upstream forbids access and echoes the credential", echo(http.StatusForbidden), nil),
			Entry("the upstream does not find the image and echoes the credential", echo(http.StatusNotFound), nil),
			Entry("the upstream fails and echoes the credential", echo(http.StatusInternalServerError), nil),
			Entry("the upstream limits requests and echoes the credential", echo(http.StatusTooManyRequests), nil),
			Entry("the upstream redirects with a token in the query", echo(http.StatusTemporaryRedirect), nil),
			Entry("the upstream sends nonsense", echo(http.StatusOK), nil),
			Entry("the upstream closes the connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil),
			Entry("a proxy with a password rejects it", echo(http.StatusProxyAuthRequired), func(c *config.Config, url string) []string {
				c.RemoteURL = "http://registry.example.test"
				return []string{"HTTP_PROXY=http://robot:" + canary + "@" + url[len("http://"):]}
			}),
			Entry("a proxy with a password is down", echo(http.StatusOK), func(c *config.Config, _ string) []string {
				c.RemoteURL = "https://registry.example.test"
				return []string{"HTTPS_PROXY=http://robot:" + canary + "@127.0.0.1:1"}
			}),
		)
	})
})

// digestOfNothing is the SHA-256 of no bytes.
const digestOfNothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
