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
	"os"
	"path/filepath"
	"regexp"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"
	"golang.org/x/sys/unix"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/test/forwardproxy"
	"github.com/larder-project/larder/test/landscape/upstream"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/upstreamsim"
)

const (
	app = "team/app:v1"
	// nodePasswordHash is the hash of "node".
	nodePasswordHash = "$2a$04$O5y/LWjanTpXU2PGNwGzq.YntF1z.V3c7rC.mf1sE9W2bF786MbOq"
)

// content are the kinds of requests for the content of an image.
var content = []upstreamsim.Kind{upstreamsim.ManifestGet, upstreamsim.ManifestHead, upstreamsim.BlobGet}

var _ = Describe("registry-cache-server", func() {
	var w *world

	BeforeEach(func() { w = newWorld() })

	for _, server := range []string{upstream.Private, upstream.Basic} {
		Describe("as a cache of a registry like "+server, func() {
			It("pulls an image once, with its own credential", func() {
				image := w.push(server, app, 1<<20)
				cache := w.start(w.config(server), "REGISTRY_LOG_LEVEL=debug")
				w.requests.Reset()

				Expect(cache.pull(app)).To(Equal(digestOf(image)))
				requests := w.requests.Requests(content...)
				Expect(requests).NotTo(BeEmpty())
				challenges := 0
				for _, request := range requests {
					if request.Status == http.StatusUnauthorized {
						challenges++
						continue
					}
					Expect(request.User).To(Equal(robot.Username))
					Expect(request.Status).To(Equal(http.StatusOK))
				}
				Expect(challenges).To(Equal(1), "it discovers the authentication scheme once")

				w.requests.Reset()
				Expect(cache.pull(app)).To(Equal(digestOf(image)))
				Expect(w.requests.Requests(upstreamsim.BlobGet)).To(BeEmpty())
				for _, request := range w.requests.Requests(upstreamsim.ManifestGet, upstreamsim.ManifestHead) {
					Expect(request.Method).To(Equal(http.MethodHead), "it only validates the tag")
				}

				cache.stop()
				Expect(secretParts(append(cache.Out.Contents(), cache.Err.Contents()...))).To(BeEmpty())
			})

			It("serves nothing with a wrong credential", func() {
				w.push(server, app, 1024)
				c := w.config(server)
				w.writeCredential(named("robot-v1", upstreamsim.Account{Username: robot.Username, Password: "wrong-s3cret"}), nil)
				cache := w.start(c, "REGISTRY_LOG_LEVEL=debug")

				_, err := cache.pull(app)
				Expect(err).To(HaveOccurred())
				Expect(w.requests.Requests(upstreamsim.BlobGet)).To(BeEmpty())
				Expect(w.requests.Requests()).To(ContainElement(And(
					HaveField("User", robot.Username), HaveField("Status", http.StatusUnauthorized))))
				Expect(cache.Err.Contents()).NotTo(ContainSubstring("wrong-s3cret"))
			})
		})
	}

	It("reports its health and its metrics", func() {
		w.push(upstream.Private, app, 1024)
		cache := w.start(w.config(upstream.Private))
		for range 2 {
			_, err := cache.pull(app)
			Expect(err).NotTo(HaveOccurred())
		}

		status, body := cache.debug("/debug/health")
		Expect(status).To(Equal(http.StatusOK))
		Expect(body).To(MatchJSON(`{}`))

		// A pull is counted once it has been served, which the client may notice first.
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

	It("reports a call to its volume that does not return, and goes on serving", func() {
		image, other := w.push(upstream.Private, app, 1024), w.push(upstream.Private, "team/other:v1", 1024)
		cache := w.start(w.config(upstream.Private))
		Expect(cache.pull(app)).To(Equal(digestOf(image)))
		Expect(cache.pull("team/other:v1")).To(Equal(digestOf(other)))
		layers, err := image.Layers()
		Expect(err).NotTo(HaveOccurred())
		layer, err := layers[0].Digest()
		Expect(err).NotTo(HaveOccurred())
		path := filepath.Join(w.storage(), "docker/registry/v2/blobs/sha256", layer.Hex[:2], layer.Hex, "data")
		Eventually(path).Should(BeAnExistingFile())
		Expect(os.Remove(path)).To(Succeed())
		Expect(unix.Mkfifo(path, 0o600)).To(Succeed()) // Opening it for reading waits for a writer.
		_, err = cache.pull(app)
		Expect(err).To(HaveOccurred(), "the volume hangs until its probe returns")

		health := func() int { status, _ := cache.debug("/debug/health"); return status }
		state := func() string { _, body := cache.debug(config.StatusPath); return body }
		Eventually(health).Should(Equal(http.StatusOK))
		Expect(state()).To(ContainSubstring(`"failing":true,"failedAt"`))
		Expect(cache.pull("team/other:v1")).To(Equal(digestOf(other)))

		By("Return from the call, after which no later failure is reported")
		Expect(os.WriteFile(path, nil, 0o600)).To(Succeed())
		failedAt := func() string { return regexp.MustCompile(`"failedAt":"[^"]*"`).FindString(state()) }
		Eventually(func() bool {
			before := failedAt()
			time.Sleep(10 * time.Millisecond)
			return failedAt() == before
		}).Should(BeTrue())
		Expect(health()).To(Equal(http.StatusOK))
	})

	It("counts requests by route, as the stock registry does, and the bytes of blobs", func() {
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
			r, err := http.NewRequest(request[0], "http://"+cache.Address()+request[1], nil)
			Expect(err).NotTo(HaveOccurred())
			response, err := http.DefaultClient.Do(r)
			Expect(err).NotTo(HaveOccurred())
			_, err = io.Copy(io.Discard, response.Body)
			Expect(err).NotTo(HaveOccurred())
			Expect(response.Body.Close()).To(Succeed())
		}

		// A response is counted once it has been sent, which the client may notice first.
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
		Expect(cache.beginPull(w).Close()).To(Succeed())
		Eventually(func() string {
			_, metrics := cache.debug("/metrics")
			return metrics
		}).Should(And(
			ContainSubstring(`registry_http_requests_total{code="200",handler="blob",method="get"} 3`),
			ContainSubstring(`registry_http_in_flight_requests{handler="blob"} 0`),
		))
	})

	It("serves what an earlier process has stored", func() {
		image := w.push(upstream.Private, app, 1<<20)
		first := w.start(w.config(upstream.Private))
		Expect(first.pull(app)).To(Equal(digestOf(image)))
		first.stop()

		second := w.start(w.config(upstream.Private))
		w.requests.Reset()
		Expect(second.pull(app)).To(Equal(digestOf(image)))
		Expect(w.requests.Requests(upstreamsim.BlobGet)).To(BeEmpty())
	})

	Describe("with TLS", func() {
		It("serves HTTPS and picks up a renewed certificate", func() {
			image := w.push(upstream.Private, app, 1024)
			dir := GinkgoT().TempDir()
			c := w.config(upstream.Private)
			c.TLS = w.issue(dir)
			cache := w.start(c)

			Expect(cache.pull(app)).To(Equal(digestOf(image)))
			Expect(http.Get("http://" + cache.Address() + "/v2/")).To(HaveHTTPStatus(http.StatusBadRequest))

			before := cache.serial()
			Expect(cache.serial()).To(Equal(before))

			w.issue(dir)
			after := cache.serial()
			Expect(after).NotTo(Equal(before))

			By("keeping the last good certificate while the files do not match")
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

		It("serves HTTP/2 with a given cipher suite, under a prefix, to its own users", func() {
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
			Expect(http.Get("http://" + cache.Address() + "/v2/")).To(HaveHTTPStatus(http.StatusOK))
			Eventually(cache.Out).Should(gbytes.Say(`127.0.0.1 - - \[.*\] "GET /v2/ HTTP/1.1" 200 2`))
			Expect(http.Get("http://" + cache.Address() + "/v2/team/app/manifests/v1?secret=hidden")).To(HaveHTTPStatus(http.StatusNotFound))
			Eventually(cache.Err).Should(gbytes.Say(`"level":"info","msg":"Pull",.*"outcome":"notFound".*"status":404,.*,"cluster":"example"}`))
			cache.stop()
			Expect(cache.Err.Contents()).NotTo(Or(ContainSubstring("response completed"), ContainSubstring("hidden")))
		})

		It("rejects requests while a health check fails, and stays alive", func() {
			marker := filepath.Join(w.dir, "maintenance")
			cache := w.start(w.config(upstream.Private), "REGISTRY_HEALTH={file: [{file: "+marker+", interval: 50ms}]}")
			Expect(http.Get("http://" + cache.Address() + "/v2/")).To(HaveHTTPStatus(http.StatusOK))
			Expect(http.Get("http://" + cache.Address() + "/")).To(HaveHTTPStatus(http.StatusOK))

			Expect(os.WriteFile(marker, nil, 0o600)).To(Succeed())
			Eventually(func() int {
				status, _ := cache.debug("/debug/health")
				return status
			}).Should(Equal(http.StatusServiceUnavailable))
			Expect(http.Get("http://" + cache.Address() + "/v2/")).To(HaveHTTPStatus(http.StatusServiceUnavailable))
			Expect(http.Get("http://" + cache.Address() + "/")).To(HaveHTTPStatus(http.StatusOK))
		})
	})

	It("connects to the upstream and its token server through the proxy of its environment", func() {
		w = newWorld(func(o *upstream.Options) {
			o.Private.Host = "private.example.test"
			o.Token = upstreamsim.Endpoint{Listen: "127.0.0.1:0", Host: "auth.example.test"}
		})
		image := w.push(upstream.Private, app, 1024)
		proxy, err := forwardproxy.Start(forwardproxy.Options{})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(proxy.Close)

		cache := w.start(w.config(upstream.Private), "HTTPS_PROXY="+proxy.URL())
		Expect(cache.pull(app)).To(Equal(digestOf(image)))
		Expect(proxy.Hosts()).To(ConsistOf("private.example.test", "auth.example.test"))
	})

	Describe("on termination", func() {
		It("accepts no new connections, completes a running pull and exits with 0", func() {
			cache := w.start(w.config(upstream.Private))
			body := cache.beginPull(w)

			cache.Terminate()
			Eventually(cache.Err).Should(gbytes.Say("Stopping"))
			Eventually(func() error {
				connection, err := net.Dial("tcp", cache.Address())
				if err != nil {
					return err
				}
				return connection.Close()
			}).Should(MatchError(ContainSubstring("refused")))
			status, _ := cache.debug("/debug/health")
			Expect(status).To(Equal(http.StatusOK))
			Consistently(cache, "300ms").ShouldNot(gexec.Exit())

			rest, err := io.Copy(io.Discard, body)
			Expect(err).NotTo(HaveOccurred())
			Expect(rest).To(BeNumerically(">", 14<<20))
			Eventually(cache).Should(gexec.Exit(0))
		})

		It("waits no longer than the drain timeout", func() {
			cache := w.start(w.config(upstream.Private), "REGISTRY_HTTP_DRAINTIMEOUT=300ms")
			body := cache.beginPull(w)

			cache.Terminate()
			Eventually(cache).Should(gexec.Exit(0))
			_, err := io.Copy(io.Discard, body)
			Expect(err).To(HaveOccurred())
			Expect(cache.Err.Contents()).To(ContainSubstring("http.draintimeout"))
		})
	})

	It("starts without its upstream, serves what it has, and reports why the rest fails", func() {
		image := w.push(upstream.Private, app, 1024)
		cache := w.start(w.config(upstream.Private))
		Expect(cache.pull(app)).To(Equal(digestOf(image)))
		cache.stop()

		other, err := pki.NewAuthority("other")
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

	DescribeTable("exits with one clear line if", func(launch func() *cache, message string) {
		cache := launch()
		Eventually(cache).Should(gexec.Exit(1))
		Expect(cache.Out.Contents()).To(BeEmpty())
		Expect(cache.Err.Contents()).To(ContainSubstring(message))
		Expect(cache.Err.Contents()).To(ContainSubstring(cache.ConfigFile()))
		Expect(cache.Err.Contents()).NotTo(ContainSubstring("goroutine "))
		Expect(secretParts(cache.Err.Contents())).To(BeEmpty())
	},
		Entry("the address is in use", func() *cache {
			return w.launch(w.config(upstream.Private), "REGISTRY_HTTP_ADDR="+w.registries.BasicHost)
		}, "http.addr: listen tcp"),
		Entry("the debug address is in use", func() *cache {
			return w.launch(w.config(upstream.Private), "REGISTRY_HTTP_DEBUG_ADDR="+w.registries.BasicHost)
		}, "http.debug.addr: listen tcp"),
		Entry("the storage cannot be a directory", func() *cache {
			Expect(os.WriteFile(w.storage(), nil, 0o600)).To(Succeed())
			return w.launch(w.config(upstream.Private))
		}, "storage.filesystem.rootdirectory: mkdir"),
		Entry("the certificate is missing", func() *cache {
			return w.launch(w.config(upstream.Private), "REGISTRY_HTTP_TLS_CERTIFICATE=/nowhere/tls.crt", "REGISTRY_HTTP_TLS_KEY=/nowhere/tls.key")
		}, "http.tls: stat /nowhere/tls.crt: no such file"),
		Entry("the environment adds a second storage driver", func() *cache {
			return w.launch(w.config(upstream.Private), "REGISTRY_STORAGE_INMEMORY={}")
		}, "multiple storage drivers"),
		Entry("a middleware is unknown", func() *cache {
			return w.launch(w.config(upstream.Private), "REGISTRY_MIDDLEWARE={registry: [{name: unknown}]}")
		}, `middleware.registry[0]: "unknown" is not built in`),
	)

	It("starts and ends while the upstream does not respond", func() {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(listener.Close)
		c := w.config(upstream.Private)
		c.RemoteURL = "http://" + listener.Addr().String()
		cache := w.start(c)
		cache.Terminate()
		Eventually(cache).WithTimeout(20*time.Second).Should(gexec.Exit(0), "before the 30 s timeout of a small request")
	})
})
