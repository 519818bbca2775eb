// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/connection"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/test/enginetest"
	"github.com/larder-project/larder/test/forwardproxy"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/secretvolume"
	"github.com/larder-project/larder/test/upstreamsim"
)

const (
	registryName = "registry.example.test"
	tokenName    = "auth.example.test"
	// tokenAddress is not that of the registry, and two addresses have no domain in common.
	tokenAddress  = "127.0.0.3"
	proxyPassword = "an-obvious-proxy-password"
)

var _ = Describe("Connections", func() {
	var (
		authority *pki.Authority
		dir       string
		files     map[string][]byte
		log       *gbytes.Buffer
		pushed    int
		c         *enginetest.Cache
		simulated upstreamsim.Options
	)

	BeforeEach(func() {
		authority = newAuthority("first")
		dir, files, log, pushed = GinkgoT().TempDir(), map[string][]byte{}, gbytes.NewBuffer(), 0
		simulated = upstreamsim.Options{
			Authentication: upstreamsim.Bearer, Username: "robot", Password: "robot-password",
			TokenEndpoint: upstreamsim.Endpoint{Listen: tokenAddress + ":0"},
		}
	})

	write := func(change map[string][]byte) {
		GinkgoHelper()
		for name, content := range change {
			files[name] = content
		}
		Expect(secretvolume.Write(dir, files)).To(Succeed())
	}
	start := func(connect connection.Files) {
		GinkgoHelper()
		c = enginetest.New(GinkgoT(), simulated, func(o *pullthrough.Options) {
			o.Connection = connect
			o.AllowedRealms = []string{tokenAddress}
			o.Credential = credentials.Credential{Username: "robot", Password: "robot-password"}
			logger := logrus.New()
			logger.SetOutput(log)
			o.Log = logger
		})
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	// pull pulls an image that the cache does not have.
	pull := func() error {
		pushed++
		tag := fmt.Sprint("v", pushed)
		c.Upstream.Push(name, tag, upstreamsim.RandomImage(uint64(pushed), 2, 20_000))
		return c.Pull(name, tag)
	}
	// refusal returns the error that a client sees for a manifest.
	refusal := func(ctx context.Context) error {
		_, err := c.Client.Manifest(ctx, name, "unknown")
		return err
	}
	// pullDuring pulls new images until a change is complete, and expects each pull to succeed.
	pullDuring := func(change func()) {
		GinkgoHelper()
		var done atomic.Bool
		defer done.Store(true)
		failed := make(chan error, 1)
		go func() {
			defer GinkgoRecover()
			defer close(failed)
			for !done.Load() {
				if err := pull(); err != nil {
					failed <- fmt.Errorf("pull %d: %w", pushed, err)
					return
				}
			}
		}()
		change()
		done.Store(true)
		Expect(<-failed).NotTo(HaveOccurred())
	}

	Describe("to servers with certificates of a private CA", func() {
		BeforeEach(func() {
			simulated.Certificate = new(serverCertificate(authority))
			write(map[string][]byte{"bundle.crt": authority.Certificate})
			start(connection.Files{CABundle: file("bundle.crt")})
		})

		It("are trusted: the registry, its token server, and the host that it redirects to", func() {
			c.Upstream.Misbehave(upstreamsim.Faults{RedirectBlobs: true})
			Expect(pull()).To(Succeed())
			counters := c.Upstream.Counters()
			Expect(counters.Requests[upstreamsim.Token]).To(BeNumerically(">", 0))
			Expect(counters.ForeignRequests).To(BeNumerically(">", 0))
			Expect(counters.ForeignAuthorizations).To(BeZero())
		})

		It("are refused without the CA, with the reason", func(ctx context.Context) {
			c.Restart(nil)
			Expect(refusal(ctx)).To(MatchError(ContainSubstring("untrusted certificate")))
		})

		It("follow a rotation of the CA while clients pull", func() {
			second := newAuthority("second")
			pullDuring(func() {
				write(map[string][]byte{"bundle.crt": append(append([]byte{}, authority.Certificate...), second.Certificate...)})
				Eventually(log).Should(gbytes.Say("Using changed files"))
				c.Upstream.SetCertificate(serverCertificate(second))
				Expect(pullOnce(c, "during")).To(Succeed())
				write(map[string][]byte{"bundle.crt": second.Certificate})
				Eventually(log).Should(gbytes.Say("Using changed files"))
			})
			Expect(pull()).To(Succeed())
		})

		It("keep the CA while the new bundle is broken", func() {
			pullDuring(func() {
				write(map[string][]byte{"bundle.crt": []byte("broken")})
				Eventually(log).Should(gbytes.Say("Ignored changed files.*CA bundle contains no certificate"))
			})
			Expect(pull()).To(Succeed())
		})
	})

	Describe("to a registry that requires a client certificate", func() {
		var accepted atomic.Pointer[func(commonName string) bool]
		accept := func(commonNames ...string) {
			accepted.Store(new(func(commonName string) bool {
				for _, name := range commonNames {
					if name == commonName {
						return true
					}
				}
				return false
			}))
		}
		clientFiles := func(commonName string) map[string][]byte {
			GinkgoHelper()
			pair, err := authority.Issue(pki.Request{CommonName: commonName})
			Expect(err).NotTo(HaveOccurred())
			return map[string][]byte{"tls.crt": pair.Certificate, "tls.key": pair.Key}
		}
		// seen counts the connections by the name in the client certificate.
		var seen func(commonName string) int

		BeforeEach(func() {
			var v1, v2 atomic.Int64
			seen = func(commonName string) int {
				return int(map[string]*atomic.Int64{"v1": &v1, "v2": &v2}[commonName].Load())
			}
			accept("v1")
			simulated.Certificate = new(serverCertificate(authority))
			simulated.VerifyClient = func(certificate *x509.Certificate) error {
				commonName := certificate.Subject.CommonName
				if !(*accepted.Load())(commonName) {
					return errors.New("unknown client")
				}
				map[string]*atomic.Int64{"v1": &v1, "v2": &v2}[commonName].Add(1)
				return nil
			}
			write(map[string][]byte{"bundle.crt": authority.Certificate})
			write(clientFiles("v1"))
			start(connection.Files{CABundle: file("bundle.crt"), ClientCertificate: file("tls.crt"), ClientKey: file("tls.key")})
		})

		It("present it to the registry and its token server, but not to the host of a redirect", func() {
			c.Upstream.Misbehave(upstreamsim.Faults{RedirectBlobs: true})
			Expect(pull()).To(Succeed())
			Expect(seen("v1")).To(BeNumerically(">", 0))
			counters := c.Upstream.Counters()
			Expect(counters.Requests[upstreamsim.Token]).To(BeNumerically(">", 0))
			Expect(counters.ForeignRequests).To(BeNumerically(">", 0))
			Expect(counters.ForeignAuthorizations).To(BeZero())
		})

		It("fail without it", func(ctx context.Context) {
			c.Restart(func(o *pullthrough.Options) { o.Connection = connection.Files{CABundle: file("bundle.crt")} })
			Expect(refusal(ctx)).To(MatchError(ContainSubstring("certificate")))
		})

		It("follow a rotation while clients pull", func() {
			pullDuring(func() {
				accept("v1", "v2")
				write(clientFiles("v2"))
				Eventually(func() int { return seen("v2") }).Should(BeNumerically(">", 0))
				Eventually(log).Should(gbytes.Say("Using changed files"))
			})
			accept("v2")
			before := seen("v1")
			Expect(pull()).To(Succeed())
			Expect(seen("v1")).To(Equal(before))
		})

		It("keep it while the new key does not match", func() {
			pullDuring(func() {
				write(map[string][]byte{"tls.key": clientFiles("v2")["tls.key"]})
				Eventually(log).Should(gbytes.Say("Ignored changed files.*do not match"))
			})
			Expect(pull()).To(Succeed())
		})

		It("do not present it to a proxy", func() {
			proxy := startProxy(forwardproxy.Options{Certificate: new(serverCertificate(authority))})
			GinkgoT().Setenv("HTTPS_PROXY", proxy.URL())
			c.Stop()
			simulated.Endpoint = upstreamsim.Endpoint{Host: registryName}
			simulated.TokenEndpoint = upstreamsim.Endpoint{Listen: "127.0.0.1:0", Host: tokenName}
			start(connection.Files{CABundle: file("bundle.crt"), ClientCertificate: file("tls.crt"), ClientKey: file("tls.key")})
			Expect(pull()).To(Succeed())
			Expect(proxy.Hosts()).To(ConsistOf(registryName, tokenName))
			Expect(proxy.Requests()).To(HaveEach(HaveField("Identified", false)))
		})
	})

	Describe("through a proxy that requires a credential", func() {
		var proxy *forwardproxy.Proxy
		proxyFiles := func(username string) map[string][]byte {
			return map[string][]byte{"username": []byte(username), "password": []byte(proxyPassword)}
		}
		usersOf := func() (users []string) {
			for _, request := range proxy.Requests() {
				users = append(users, request.Username)
			}
			return users
		}

		BeforeEach(func() {
			proxy = startProxy(forwardproxy.Options{})
			proxy.Accept(map[string]string{"v1": proxyPassword})
			GinkgoT().Setenv("HTTP_PROXY", proxy.URL())
			GinkgoT().Setenv("HTTPS_PROXY", proxy.URL())
			GinkgoT().Setenv("NO_PROXY", "")
			simulated.Endpoint = upstreamsim.Endpoint{Host: registryName}
			simulated.TokenEndpoint = upstreamsim.Endpoint{Listen: "127.0.0.1:0", Host: tokenName}
			write(proxyFiles("v1"))
			write(map[string][]byte{"bundle.crt": authority.Certificate})
		})
		AfterEach(func() {
			Expect(string(log.Contents())).NotTo(ContainSubstring(proxyPassword))
		})

		for _, scheme := range []string{"http", "https"} {
			Describe("to an upstream with "+scheme, func() {
				connect := connection.Files{}

				BeforeEach(func() {
					connect = connection.Files{ProxyUsername: file("username"), ProxyPassword: file("password")}
					if scheme == "https" {
						simulated.Certificate = new(serverCertificate(authority))
						connect.CABundle = file("bundle.crt")
					}
				})

				It("present it", func() {
					start(connect)
					Expect(pull()).To(Succeed())
					Expect(proxy.Hosts()).To(ConsistOf(registryName, tokenName))
					Expect(usersOf()).To(HaveEach("v1"))
				})

				It("report a proxy that rejects it", func(ctx context.Context) {
					proxy.Accept(map[string]string{"v1": "another"})
					start(connect)
					err := refusal(ctx)
					Expect(err).To(MatchError(ContainSubstring("the proxy rejects its credential with status 407")))
					Expect(err).NotTo(MatchError(ContainSubstring(proxyPassword)))
				})

				It("report a proxy that requires one", func(ctx context.Context) {
					connect.ProxyUsername, connect.ProxyPassword = "", ""
					start(connect)
					Expect(refusal(ctx)).To(MatchError(ContainSubstring("the proxy requires a credential: status 407")))
				})

				It("follow a rotation while clients pull", func() {
					start(connect)
					pullDuring(func() {
						proxy.Accept(map[string]string{"v1": proxyPassword, "v2": proxyPassword})
						write(proxyFiles("v2"))
						Eventually(usersOf).Should(ContainElement("v2"))
						Eventually(log).Should(gbytes.Say("Using changed files"))
					})
					proxy.Accept(map[string]string{"v2": proxyPassword})
					Expect(pull()).To(Succeed())
				})

				It("go past it to hosts without a proxy", func(ctx context.Context) {
					GinkgoT().Setenv("NO_PROXY", ".example.test")
					start(connect)
					Expect(refusal(ctx)).To(MatchError(ContainSubstring("cannot resolve the host name")))
					Expect(proxy.Requests()).To(BeEmpty())
				})
			})
		}
	})

	Describe("to a slow upstream", func() {
		It("wait for its first byte as long as configured", func(ctx context.Context) {
			simulated = upstreamsim.Options{}
			start(connection.Files{})
			c.Restart(func(o *pullthrough.Options) { o.Timeouts.FirstByte, o.Retries = 500*time.Millisecond, 0 })
			c.Upstream.Misbehave(upstreamsim.Faults{Hold: true, Only: []upstreamsim.Kind{upstreamsim.BlobGet}})
			DeferCleanup(c.Upstream.Misbehave, upstreamsim.Faults{})
			Expect(pull()).To(MatchError(ContainSubstring("no response in time")))

			c.Restart(func(o *pullthrough.Options) { o.Timeouts.FirstByte = time.Hour })
			result := make(chan error)
			go func() { result <- pull() }()
			Consistently(ctx, result, "1s").ShouldNot(Receive())
			c.Upstream.Misbehave(upstreamsim.Faults{})
			Eventually(ctx, result).Should(Receive(BeNil()))
		}, SpecTimeout(2*time.Minute))
	})
})

// pullOnce pulls another image than pullDuring.
func pullOnce(c *enginetest.Cache, tag string) error {
	c.Upstream.Push(name+"-other", tag, upstreamsim.RandomImage(1_000_000, 1, 1000))
	return c.Pull(name+"-other", tag)
}

func newAuthority(name string) *pki.Authority {
	GinkgoHelper()
	authority, err := pki.NewAuthority(name)
	Expect(err).NotTo(HaveOccurred())
	return authority
}

func serverCertificate(authority *pki.Authority) tls.Certificate {
	GinkgoHelper()
	pair, err := authority.Issue(pki.Request{
		CommonName: "server", Hosts: []string{"127.0.0.1", "127.0.0.2", tokenAddress, registryName, tokenName},
	})
	Expect(err).NotTo(HaveOccurred())
	certificate, err := pair.TLS()
	Expect(err).NotTo(HaveOccurred())
	return certificate
}

func startProxy(o forwardproxy.Options) *forwardproxy.Proxy {
	GinkgoHelper()
	proxy, err := forwardproxy.Start(o)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(proxy.Close)
	return proxy
}
