// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"

	"github.com/larder-project/larder/test/landscape/upstream"
)

const (
	app = "team/app:v1"
	// nodePasswordHash is the hash of "node".
	nodePasswordHash = "$2a$04$O5y/LWjanTpXU2PGNwGzq.YntF1z.V3c7rC.mf1sE9W2bF786MbOq"
)

var _ = Describe("registry-cache-server", func() {
	var w *world

	BeforeEach(func() { w = newWorld() })

	for _, server := range []string{upstream.Private, upstream.Basic} {
		Describe("as a cache of a registry like "+server, func() {
			It("fetches an image once, with its own credential", func() {
				image := w.push(server, app, 1<<20)
				cache := w.start(w.config(server), "REGISTRY_LOG_LEVEL=debug")
				w.requests.Reset()

				Expect(cache.pull(app)).To(Equal(digestOf(image)))
				content := w.requests.Requests(upstream.KindManifest, upstream.KindBlob)
				Expect(content).NotTo(BeEmpty())
				challenges := 0
				for _, request := range content {
					if request.Status == http.StatusUnauthorized {
						challenges++
						continue
					}
					Expect(request.User).To(Equal(robot.Username))
					Expect(request.Status).To(Equal(http.StatusOK))
				}
				Expect(challenges).To(Equal(1), "one challenge is enough")

				w.requests.Reset()
				Expect(cache.pull(app)).To(Equal(digestOf(image)))
				Expect(w.requests.Requests(upstream.KindBlob)).To(BeEmpty())
				for _, request := range w.requests.Requests(upstream.KindManifest) {
					Expect(request.Method).To(Equal(http.MethodHead), "only the tag is validated")
				}

				cache.stop()
				Expect(secretParts(append(cache.Out.Contents(), cache.Err.Contents()...))).To(BeEmpty())
			})

			It("serves nothing with a wrong credential", func() {
				w.push(server, app, 1024)
				c := w.config(server)
				w.writeCredential(named("robot-v1", upstream.Account{Username: robot.Username, Password: "wrong-s3cret"}), nil)
				cache := w.start(c, "REGISTRY_LOG_LEVEL=debug")

				_, err := cache.pull(app)
				Expect(err).To(HaveOccurred())
				Expect(w.requests.Requests(upstream.KindBlob)).To(BeEmpty())
				Expect(w.requests.Requests()).To(ContainElement(And(
					HaveField("User", robot.Username), HaveField("Status", http.StatusUnauthorized))))
				Expect(cache.Err.Contents()).NotTo(ContainSubstring("wrong-s3cret"))
			})
		})
	}

	It("serves its health and the metrics of the cache", func() {
		w.push(upstream.Private, app, 1024)
		cache := w.start(w.config(upstream.Private))
		for range 2 {
			_, err := cache.pull(app)
			Expect(err).NotTo(HaveOccurred())
		}

		status, body := cache.debug("/debug/health")
		Expect(status).To(Equal(http.StatusOK))
		Expect(body).To(MatchJSON(`{}`))

		// A pull is counted when it has been served, which can be after the client has received it.
		Eventually(func() string {
			_, body = cache.debug("/metrics")
			return body
		}).Should(ContainSubstring(`registry_proxy_hits_total{type="blob"} 2`))
		Expect(body).To(ContainSubstring(`registry_proxy_misses_total{type="blob"} 2`))
		Expect(body).To(ContainSubstring(`registry_proxy_requests_total{type="manifest"}`))
		Expect(body).To(ContainSubstring(`registry_http_requests_total`))

		status, _ = cache.debug("/debug/vars")
		Expect(status).To(Equal(http.StatusNotFound))
		status, _ = cache.debug("/debug/pprof/heap")
		Expect(status).To(Equal(http.StatusNotFound))
	})

	It("counts requests by route, like the stock registry, and the bytes of blobs", func() {
		image := w.push(upstream.Private, app, 1<<20)
		cache := w.start(w.config(upstream.Private), "REGISTRY_HTTP_PREFIX=/cache/")
		layers, err := image.Layers()
		Expect(err).NotTo(HaveOccurred())
		layer, err := layers[0].Digest()
		Expect(err).NotTo(HaveOccurred())
		size, err := layers[0].Size()
		Expect(err).NotTo(HaveOccurred())
		const repository = "/cache/v2/team/app"
		for _, request := range [][2]string{
			{http.MethodGet, "/cache/v2/"},
			{http.MethodGet, "/cache/v2/_catalog"},
			{http.MethodGet, repository + "/tags/list"},
			{http.MethodGet, repository + "/manifests/v1"},
			{http.MethodHead, repository + "/manifests/" + digestOf(image).String()},
			{http.MethodGet, repository + "/blobs/" + layer.String()},
			{http.MethodPost, repository + "/blobs/uploads/"},
			{http.MethodDelete, repository + "/blobs/uploads/1"},
			{http.MethodGet, repository + "/referrers/" + digestOf(image).String()},
			{http.MethodGet, "/cache/v2/team/unknown"},
			{http.MethodGet, repository + "/manifests/"},
			{http.MethodGet, "/v2/"},
			{http.MethodGet, "/"},
		} {
			r, err := http.NewRequest(request[0], "http://"+cache.address+request[1], nil)
			Expect(err).NotTo(HaveOccurred())
			response, err := http.DefaultClient.Do(r)
			Expect(err).NotTo(HaveOccurred())
			_, err = io.Copy(io.Discard, response.Body)
			Expect(err).NotTo(HaveOccurred())
			Expect(response.Body.Close()).To(Succeed())
		}

		// A response is counted when it has been sent, which can be after the client has received it.
		Eventually(func(g Gomega) {
			_, metrics := cache.debug("/metrics")
			counted := regexp.MustCompile(`registry_http_requests_total{.*`).FindAllString(metrics, -1)
			g.Expect(counted).To(ConsistOf(
				`registry_http_requests_total{code="200",handler="base",method="get"} 1`,
				`registry_http_requests_total{code="200",handler="catalog",method="get"} 1`,
				`registry_http_requests_total{code="200",handler="tags",method="get"} 1`,
				`registry_http_requests_total{code="200",handler="manifest",method="get"} 1`,
				`registry_http_requests_total{code="200",handler="manifest",method="head"} 1`,
				`registry_http_requests_total{code="200",handler="blob",method="get"} 1`,
				`registry_http_requests_total{code="405",handler="blob_upload",method="post"} 1`,
				`registry_http_requests_total{code="405",handler="blob_upload_chunk",method="delete"} 1`,
				`registry_http_requests_total{code="404",handler="referrers",method="get"} 1`,
			))
			g.Expect(metrics).To(ContainSubstring(`registry_http_response_size_bytes_sum{handler="blob"} %g`, float64(size)))
			g.Expect(metrics).To(ContainSubstring(`registry_http_request_size_bytes_count{handler="blob"} 1`))
			g.Expect(metrics).To(ContainSubstring(`registry_http_request_duration_seconds_count{handler="blob",method="get"} 1`))
			g.Expect(metrics).To(ContainSubstring(`registry_http_in_flight_requests{handler="blob"} 0`))
		}).Should(Succeed())
	})

	It("counts aborted responses", func() {
		cache := w.start(w.config(upstream.Private))
		Expect(cache.download(w).Close()).To(Succeed())
		Eventually(func() string {
			_, metrics := cache.debug("/metrics")
			return metrics
		}).Should(And(
			ContainSubstring(`registry_http_requests_total{code="200",handler="blob",method="get"} 3`),
			ContainSubstring(`registry_http_in_flight_requests{handler="blob"} 0`),
		))
	})

	It("uses content that another instance has stored", func() {
		image := w.push(upstream.Private, app, 1<<20)
		first := w.start(w.config(upstream.Private))
		Expect(first.pull(app)).To(Equal(digestOf(image)))
		first.stop()

		second := w.start(w.config(upstream.Private))
		w.requests.Reset()
		Expect(second.pull(app)).To(Equal(digestOf(image)))
		Expect(w.requests.Requests(upstream.KindBlob)).To(BeEmpty())
	})

	Describe("with TLS", func() {
		It("serves HTTPS, and loads a renewed certificate", func() {
			image := w.push(upstream.Private, app, 1024)
			dir := GinkgoT().TempDir()
			c := w.config(upstream.Private)
			c.TLS = w.issue(dir)
			cache := w.start(c)

			Expect(cache.pull(app)).To(Equal(digestOf(image)))
			Expect(http.Get("http://" + cache.address + "/v2/")).To(HaveHTTPStatus(http.StatusBadRequest))

			before := cache.serial()
			Expect(cache.serial()).To(Equal(before))

			w.issue(dir)
			after := cache.serial()
			Expect(after).NotTo(Equal(before))

			By("keeping the previous one while the files are not a pair")
			Expect(os.Remove(filepath.Join(dir, "tls.key"))).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, "tls.key"), []byte("garbage"), 0o600)).To(Succeed())
			Expect(cache.serial()).To(Equal(after))
			Expect(cache.serial()).To(Equal(after))
			cache.stop()
			Expect(bytes.Count(cache.Err.Contents(), []byte("Failed to load renewed certificate"))).To(Equal(1), "logged once, not at each handshake")
		})
	})

	Describe("with settings of the stock registry", func() {
		It("requires client certificates, a TLS version and HTTP/1.1", func() {
			c := w.config(upstream.Private)
			c.TLS = w.issue(GinkgoT().TempDir())
			cache := w.start(c,
				"REGISTRY_HTTP_TLS_CLIENTCAS=["+w.caFile()+"]",
				"REGISTRY_HTTP_TLS_CLIENTAUTH=require-any-client-cert",
				"REGISTRY_HTTP_TLS_MINIMUMTLS=tls1.3",
				"REGISTRY_HTTP_HTTP2_DISABLED=true")

			_, err := cache.get("/v2/", nil)
			Expect(err).To(MatchError(ContainSubstring("certificate required")))
			_, err = cache.get("/v2/", func(config *tls.Config) { config.MaxVersion = tls.VersionTLS12 })
			Expect(err).To(MatchError(ContainSubstring("protocol version")))
			response, err := cache.get("/v2/", func(config *tls.Config) {
				config.Certificates = []tls.Certificate{w.clientCertificate()}
			})
			Expect(err).NotTo(HaveOccurred())
			Expect(response).To(HaveHTTPStatus(http.StatusOK))
			Expect(response.ProtoMajor).To(Equal(1))
		})

		It("serves HTTP/2, with a given cipher suite, under a prefix, to its own users", func() {
			c := w.config(upstream.Private)
			c.TLS = w.issue(GinkgoT().TempDir())
			users := filepath.Join(w.dir, "htpasswd")
			Expect(os.WriteFile(users, []byte("node:"+nodePasswordHash+"\n"), 0o600)).To(Succeed())
			cache := w.start(c,
				"REGISTRY_HTTP_TLS_CIPHERSUITES=[TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]",
				"REGISTRY_HTTP_PREFIX=/cache/",
				"REGISTRY_AUTH={htpasswd: {realm: cache, path: "+users+"}}")

			response, err := cache.get("/cache/v2/", func(config *tls.Config) { config.MaxVersion = tls.VersionTLS12 })
			Expect(err).NotTo(HaveOccurred())
			Expect(response).To(HaveHTTPStatus(http.StatusUnauthorized))
			Expect(response.Header.Get("WWW-Authenticate")).To(Equal(`Basic realm="cache"`))
			Expect(response.ProtoMajor).To(Equal(2))
			Expect(response.TLS.CipherSuite).To(Equal(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256))
		})

		It("writes the configured logs", func() {
			cache := w.start(w.config(upstream.Private),
				"REGISTRY_LOG_ACCESSLOG_DISABLED=false", "REGISTRY_LOG_FIELDS={cluster: example}", "REGISTRY_LOG_LEVEL=debug")
			Expect(http.Get("http://" + cache.address + "/v2/")).To(HaveHTTPStatus(http.StatusOK))
			Eventually(cache.Out).Should(gbytes.Say(`127.0.0.1 - - \[.*\] "GET /v2/ HTTP/1.1" 200 2`))
			Eventually(cache.Err).Should(gbytes.Say(`"cluster":"example".*"msg":"response completed"`))
		})

		It("refuses requests while a health check fails, and still reports liveness", func() {
			marker := filepath.Join(w.dir, "maintenance")
			cache := w.start(w.config(upstream.Private), "REGISTRY_HEALTH={file: [{file: "+marker+", interval: 50ms}]}")
			Expect(http.Get("http://" + cache.address + "/v2/")).To(HaveHTTPStatus(http.StatusOK))
			Expect(http.Get("http://" + cache.address + "/")).To(HaveHTTPStatus(http.StatusOK))

			Expect(os.WriteFile(marker, nil, 0o600)).To(Succeed())
			Eventually(func() int {
				status, _ := cache.debug("/debug/health")
				return status
			}).Should(Equal(http.StatusServiceUnavailable))
			Expect(http.Get("http://" + cache.address + "/v2/")).To(HaveHTTPStatus(http.StatusServiceUnavailable))
			Expect(http.Get("http://" + cache.address + "/")).To(HaveHTTPStatus(http.StatusOK))
		})
	})

	It("connects to the upstream and its token server through the proxy of its environment", func() {
		w = newWorld(func(o *upstream.Options) {
			o.Private.Host = "private.example.test"
			o.Token = upstream.Endpoint{Listen: "127.0.0.1:0", Host: "auth.example.test"}
		})
		image := w.push(upstream.Private, app, 1024)
		proxy := &connectProxy{}
		server := httptest.NewServer(proxy)
		DeferCleanup(server.Close)

		cache := w.start(w.config(upstream.Private), "HTTPS_PROXY="+server.URL)
		Expect(cache.pull(app)).To(Equal(digestOf(image)))
		Expect(proxy.seen()).To(ConsistOf("private.example.test", "auth.example.test"))
	})

	Describe("when stopped", func() {
		It("accepts no connections, waits for a running download, and exits with 0", func() {
			cache := w.start(w.config(upstream.Private))
			body := cache.download(w)

			cache.Terminate()
			Eventually(cache.Err).Should(gbytes.Say("Stopping"))
			Eventually(func() error {
				connection, err := net.Dial("tcp", cache.address)
				if err != nil {
					return err
				}
				return connection.Close()
			}).Should(MatchError(ContainSubstring("refused")))
			status, _ := cache.debug("/debug/health")
			Expect(status).To(Equal(http.StatusOK))
			Consistently(cache.Session, "300ms").ShouldNot(gexec.Exit())

			rest, err := io.Copy(io.Discard, body)
			Expect(err).NotTo(HaveOccurred())
			Expect(rest).To(BeNumerically(">", 14<<20))
			Eventually(cache.Session).Should(gexec.Exit(0))
		})

		It("waits no longer than the drain timeout", func() {
			cache := w.start(w.config(upstream.Private), "REGISTRY_HTTP_DRAINTIMEOUT=300ms")
			body := cache.download(w)

			cache.Terminate()
			Eventually(cache.Session).Should(gexec.Exit(0))
			_, err := io.Copy(io.Discard, body)
			Expect(err).To(HaveOccurred())
			Expect(cache.Err.Contents()).To(ContainSubstring("http.draintimeout"))
		})
	})

	It("starts without its upstream, serves cached images, and reports why others are missing", func() {
		image := w.push(upstream.Private, app, 1024)
		cache := w.start(w.config(upstream.Private))
		Expect(cache.pull(app)).To(Equal(digestOf(image)))
		cache.stop()

		other, err := upstream.NewAuthority()
		Expect(err).NotTo(HaveOccurred())
		Expect(os.WriteFile(w.caFile(), other.Certificate, 0o600)).To(Succeed())
		cache = w.start(w.config(upstream.Private))
		Expect(cache.pull(app)).To(Equal(digestOf(image)))
		_, err = cache.pull("team/unknown:v1")
		Expect(err).To(MatchError(ContainSubstring("certificate")))
		cache.stop()

		Expect(w.registries.Close()).To(Succeed())
		cache = w.start(w.config(upstream.Private))
		Expect(cache.pull(app)).To(Equal(digestOf(image)))
		_, err = cache.pull("team/unknown:v1")
		Expect(err).To(MatchError(ContainSubstring("connection refused")))
	})

	DescribeTable("exits with a one-line error if", func(prepare func() (*gexec.Session, string), message string) {
		session, configFile := prepare()
		Eventually(session).Should(gexec.Exit(1))
		Expect(session.Out.Contents()).To(BeEmpty())
		Expect(session.Err.Contents()).To(ContainSubstring(message))
		Expect(session.Err.Contents()).To(ContainSubstring(configFile))
		Expect(session.Err.Contents()).NotTo(ContainSubstring("goroutine "))
		Expect(secretParts(session.Err.Contents())).To(BeEmpty())
	},
		Entry("the address is taken", func() (*gexec.Session, string) {
			return w.command(w.config(upstream.Private), "REGISTRY_HTTP_ADDR="+w.registries.BasicHost)
		}, "http.addr: listen tcp"),
		Entry("the debug address is taken", func() (*gexec.Session, string) {
			return w.command(w.config(upstream.Private), "REGISTRY_HTTP_DEBUG_ADDR="+w.registries.BasicHost)
		}, "http.debug.addr: listen tcp"),
		Entry("the storage cannot be a directory", func() (*gexec.Session, string) {
			Expect(os.WriteFile(w.storage(), nil, 0o600)).To(Succeed())
			return w.command(w.config(upstream.Private))
		}, "storage.filesystem.rootdirectory: mkdir"),
		Entry("the certificate is missing", func() (*gexec.Session, string) {
			return w.command(w.config(upstream.Private), "REGISTRY_HTTP_TLS_CERTIFICATE=/nowhere/tls.crt", "REGISTRY_HTTP_TLS_KEY=/nowhere/tls.key")
		}, "http.tls: stat /nowhere/tls.crt: no such file"),
		Entry("the environment adds a second storage driver", func() (*gexec.Session, string) {
			return w.command(w.config(upstream.Private), "REGISTRY_STORAGE_INMEMORY={}")
		}, "multiple storage drivers"),
		Entry("a middleware is not built in", func() (*gexec.Session, string) {
			return w.command(w.config(upstream.Private), "REGISTRY_MIDDLEWARE={registry: [{name: unknown}]}")
		}, `middleware.registry[0]: "unknown" is not built in`),
	)

	It("starts and stops while the upstream does not respond", func() {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(listener.Close)
		c := w.config(upstream.Private)
		c.RemoteURL = "http://" + listener.Addr().String()
		cache := w.start(c)
		cache.Terminate()
		Eventually(cache.Session).WithTimeout(20*time.Second).Should(gexec.Exit(0), "before the 30 s that a small request may take")
	})
})
