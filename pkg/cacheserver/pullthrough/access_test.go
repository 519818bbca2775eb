// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	cacheconfig "github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/access"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/test/enginetest"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

const (
	shared  = "team/shared"  // alice and bob
	private = "team-a/app"   // alice
	public  = "library/base" // anyone
)

// people are the accounts of an upstream, which change while it runs.
type people struct {
	mu       sync.Mutex
	accounts []upstreamsim.Account
}

func (p *people) all() []upstreamsim.Account {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.accounts)
}

func (p *people) remove(username string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accounts = slices.DeleteFunc(p.accounts, func(a upstreamsim.Account) bool { return a.Username == username })
}

var (
	alice = upstreamsim.Account{Username: "alice", Password: "alice-canary-7f3a", Repositories: []string{"team", "team-a"}}
	bob   = upstreamsim.Account{Username: "bob", Password: "bob-canary-9c1e", Repositories: []string{"team", "team-b"}}
	admin = upstreamsim.Account{Username: "admin", Password: "admin-canary-5d20"}
	// wrong has the name of an account.
	wrong = upstreamsim.Account{Username: "alice", Password: "guess-canary-1b44"}
	none  = upstreamsim.Account{}
	// everything and teamOnly are accounts of the cache.
	everything = upstreamsim.Account{Username: cacheconfig.AccountPrefix + "all", Password: "all-canary-2e61"}
	teamOnly   = upstreamsim.Account{Username: cacheconfig.AccountPrefix + "team", Password: "team-canary-8a0d"}
)

// tenants is a cache that asks for pull secrets.
type tenants struct {
	*enginetest.Cache
	people  *people
	seen    *upstreamsim.Recorder
	elapsed atomic.Int64
	logs    *test.Hook
	images  map[string]upstreamsim.Image
}

const grantDuration = 5 * time.Minute

func newTenants(upstream upstreamsim.Options, change func(*pullthrough.Options)) *tenants {
	GinkgoHelper()
	t := &tenants{people: &people{accounts: []upstreamsim.Account{alice, bob, admin}}, seen: &upstreamsim.Recorder{}, images: map[string]upstreamsim.Image{}}
	if upstream.Authentication == "" {
		upstream.Authentication = upstreamsim.Bearer
	}
	upstream.Accounts, upstream.Observe, upstream.Public = t.people.all, t.seen.Observe, []string{"library"}
	begun := time.Now()
	t.Cache = enginetest.New(GinkgoT(), upstream, func(o *pullthrough.Options) {
		o.Access.Mode, o.Access.GrantDuration = access.PullSecrets, grantDuration
		o.Now = func() time.Time { return begun.Add(time.Duration(t.elapsed.Load())) }
		log, hook := test.NewNullLogger()
		log.SetLevel(logrus.DebugLevel)
		o.Log, t.logs = log, hook
		if change != nil {
			change(o)
		}
	})
	for i, repository := range []string{shared, private, public} {
		t.images[repository] = upstreamsim.RandomImage(uint64(i), 2, 10_000)
		t.Upstream.Push(repository, "v1", t.images[repository])
	}
	DeferCleanup(func() {
		for _, entry := range t.logs.AllEntries() {
			line, err := entry.String()
			Expect(err).NotTo(HaveOccurred())
			Expect(line).NotTo(ContainSubstring("canary"))
		}
	})
	return t
}

// claimOf is an image with the configuration of another one, and a layer that it claims to have.
func claimOf(image upstreamsim.Image, layer digest.Digest) upstreamsim.Content {
	return upstreamsim.Content{MediaType: "application/vnd.oci.image.manifest.v1+json", Data: []byte(fmt.Sprintf(
		`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":10000}]}`,
		`{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"`+image.Layers()[0].Descriptor().Digest.String()+`","size":10000}`, layer))}
}

// own gives the cache a credential that may read everything.
func own(o *pullthrough.Options) {
	o.Credential = credentials.Credential{Username: admin.Username, Password: admin.Password}
}

func (t *tenants) pass(d time.Duration) { t.elapsed.Add(int64(d)) }

func basic(a upstreamsim.Account) string {
	if a.Username == "" {
		return ""
	}
	request := &http.Request{Header: http.Header{}}
	request.SetBasicAuth(a.Username, a.Password)
	return request.Header.Get("Authorization")
}

// as returns a client with the pull secret of an account.
func (t *tenants) as(a upstreamsim.Account) *pull.Client {
	client := pull.NewClient(t.Server.URL, &http.Transport{MaxIdleConnsPerHost: 64})
	client.Authorization = basic(a)
	DeferCleanup(client.Close)
	return client
}

func (t *tenants) pull(a upstreamsim.Account, repository string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := t.as(a).Image(ctx, repository, "v1")
	return err
}

// layer returns the digest of a layer of the image of a repository.
func (t *tenants) layer(repository string) string {
	return t.images[repository].Layers()[0].Descriptor().Digest.String()
}

// pullStored pulls the image of a repository until it is stored: a client has the last byte of a blob before that.
func (t *tenants) pullStored(a upstreamsim.Account, repository string) {
	GinkgoHelper()
	Eventually(func() int {
		Expect(t.pull(a, repository)).To(Succeed())
		fetched := len(t.seen.Requests(objects...))
		for _, blob := range t.images[repository].Blobs {
			_, _, _ = t.status(a, http.MethodHead, "/v2/"+repository+"/blobs/"+blob.Descriptor().Digest.String(), nil)
		}
		return len(t.seen.Requests(objects...)) - fetched
	}).Should(BeZero())
}

// status returns the status and the body of a request.
func (t *tenants) status(a upstreamsim.Account, method, path string, header http.Header) (int, http.Header, string) {
	GinkgoHelper()
	response, err := t.as(a).Do(context.Background(), method, path, header)
	if err != nil {
		var refusal *pull.StatusError
		Expect(errors.As(err, &refusal)).To(BeTrue(), err.Error())
		return refusal.Status, refusal.Header, refusal.Body
	}
	Expect(response.Body.Close()).To(Succeed())
	return response.StatusCode, response.Header, ""
}

// counted counts requests.
type counted struct {
	sent *atomic.Int32
	next http.RoundTripper
}

func (c counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.sent.Add(1)
	return c.next.RoundTrip(r)
}

// objects are the kinds of requests other than those of the check of the cache's own credential.
var objects = []upstreamsim.Kind{
	upstreamsim.ManifestGet, upstreamsim.ManifestHead, upstreamsim.BlobGet, upstreamsim.BlobHead, upstreamsim.Tags, upstreamsim.Referrers,
}

// asked returns how many requests for objects the upstream got with the user name of an account.
func (t *tenants) asked(a upstreamsim.Account, kinds ...upstreamsim.Kind) int {
	n := 0
	for _, request := range t.seen.Requests(kinds...) {
		if request.User == a.Username && request.Kind != upstreamsim.Token && request.Kind != upstreamsim.Ping {
			n++
		}
	}
	return n
}

// attempts returns how often the upstream saw a password of a user.
func (t *tenants) attempts(a upstreamsim.Account) int {
	n := 0
	for _, request := range t.seen.Requests(upstreamsim.Token) {
		if request.User == a.Username {
			n++
		}
	}
	return n
}

var _ = Describe("Pull secrets", func() {
	enginetest.ExpectNoLeaks()

	for _, upstream := range []struct {
		name    string
		options upstreamsim.Options
	}{
		{"an upstream that issues tokens without permissions", upstreamsim.Options{}},
		{"an upstream that refuses tokens", upstreamsim.Options{Denial: upstreamsim.DenyToken}},
		{"an upstream that hides repositories", upstreamsim.Options{Denial: upstreamsim.Hide}},
		{"an upstream with basic authentication", upstreamsim.Options{Authentication: upstreamsim.Basic}},
	} {
		Context("for "+upstream.name, func() {
			for _, credential := range []struct {
				name   string
				change func(*pullthrough.Options)
			}{{"without a credential of the cache", nil}, {"with a credential of the cache", own}} {
				Context(credential.name, func() {
					var t *tenants
					BeforeEach(func() { t = newTenants(upstream.options, credential.change) })

					It("serve two tenants from one copy", func() {
						Expect(t.pull(alice, shared)).To(Succeed())
						Expect(t.pull(bob, shared)).To(Succeed())
						Expect(t.Upstream.Counters().Bytes).To(Equal(t.images[shared].Size()))
						Expect(t.Upstream.Counters().MostRequested()).To(Equal(1))
					})

					It("serve what is public to anyone", func() {
						for _, a := range []upstreamsim.Account{none, bob, wrong} {
							Expect(t.pull(a, public)).To(Succeed())
						}
						Expect(t.asked(bob)).To(BeZero())
						Expect(t.attempts(alice)).To(BeZero(), "a credential is not presented for what is public")
					})

					It("open every door to those with permission, and none to others", func() {
						image := t.images[private]
						subject := image.Digest()
						referrer := upstreamsim.Content{MediaType: "application/vnd.oci.image.manifest.v1+json", Data: []byte(fmt.Sprintf(
							`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"a/b","config":{"mediaType":"a/b","digest":"sha256:%064d","size":2},"layers":[],"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":1}}`, 1, subject))}
						t.Upstream.PushManifest(private, "", referrer)
						Expect(t.pull(alice, private)).To(Succeed())
						layer := image.Layers()[0].Descriptor().Digest.String()
						type door struct {
							method, path string
							header       http.Header
						}
						var doors []door
						for _, method := range []string{http.MethodGet, http.MethodHead} {
							for _, path := range []string{
								"/manifests/v1", "/manifests/" + subject.String(), "/blobs/" + layer, "/tags/list", "/tags/list?n=1",
								"/referrers/" + subject.String(), "/referrers/" + subject.String() + "?artifactType=a/b",
							} {
								doors = append(doors, door{method, "/v2/" + private + path, nil})
							}
						}
						doors = append(doors,
							door{http.MethodGet, "/v2/" + private + "/blobs/" + layer, http.Header{"Range": {"bytes=5-9"}}},
							door{http.MethodGet, "/v2/" + private + "/manifests/v1", http.Header{"If-None-Match": {`"` + subject.String() + `"`}}},
						)
						for _, door := range doors {
							status, _, _ := t.status(alice, door.method, door.path, door.header)
							Expect(status).To(BeElementOf(http.StatusOK, http.StatusPartialContent, http.StatusNotModified, http.StatusMethodNotAllowed), door.method+" "+door.path)
						}
						t.Upstream.ResetCounters()
						for _, door := range doors {
							for _, a := range []upstreamsim.Account{none, wrong, bob} {
								refused := []int{http.StatusForbidden, http.StatusTooManyRequests}
								switch {
								case a.Username == "":
									refused = []int{http.StatusUnauthorized}
								case upstream.options.Denial == upstreamsim.Hide:
									refused = append(refused, http.StatusNotFound)
								}
								status, header, body := t.status(a, door.method, door.path, door.header)
								Expect(status).To(BeElementOf(refused), door.method+" "+door.path+" as "+a.Username)
								if status == http.StatusUnauthorized {
									Expect(header).To(HaveKey("Www-Authenticate"))
								} else {
									Expect(header).NotTo(HaveKey("Www-Authenticate"))
								}
								for _, name := range []string{"Docker-Content-Digest", "Etag", "Content-Range", "Link"} {
									Expect(header).NotTo(HaveKey(name))
								}
								Expect(body).NotTo(ContainSubstring(subject.Encoded()))
							}
						}
						Expect(t.Upstream.Counters().Bytes).To(BeZero(), "of content for those without permission")
					})
				})
			}
		})
	}

	It("challenge a client that presents no credential of use", func() {
		t := newTenants(upstreamsim.Options{}, own)
		Expect(t.pull(alice, private)).To(Succeed())
		for _, value := range []string{"Bearer x", "Basic", "Basic !", "Basic " + "Og==", "Basic " + "OnBhc3N3b3Jk", "Basic " + strings.Repeat("YWFh", 8<<10)} {
			client := t.as(none)
			client.Authorization = value
			_, err := client.Head(context.Background(), private, "v1")
			Expect(pull.StatusOf(err)).To(Equal(http.StatusUnauthorized), value)
		}
		request, err := http.NewRequest(http.MethodHead, t.Server.URL+"/v2/"+private+"/manifests/v1", nil)
		Expect(err).NotTo(HaveOccurred())
		request.Header["Authorization"] = []string{basic(alice), basic(alice)}
		response, err := http.DefaultTransport.RoundTrip(request)
		Expect(err).NotTo(HaveOccurred())
		Expect(response.Body.Close()).To(Succeed())
		Expect(response).To(HaveHTTPStatus(http.StatusUnauthorized))
	})

	It("show nothing but the API of pulls", func() {
		t := newTenants(upstreamsim.Options{}, own)
		Expect(t.pull(alice, private)).To(Succeed())
		layer := t.images[private].Layers()[0].Descriptor().Digest.String()
		for _, a := range []upstreamsim.Account{none, bob, alice} {
			for path, expected := range map[string]int{
				"/v2/_catalog":                                         http.StatusForbidden,
				"/v2/_catalog?n=1":                                     http.StatusForbidden,
				"/v2/_catalog/":                                        http.StatusNotFound,
				"/v2/" + private:                                       http.StatusNotFound,
				"/v2/" + private + "/":                                 http.StatusNotFound,
				"/v2/" + private + "/blobs/uploads/":                   http.StatusNotFound,
				"/v2/" + private + "/blobs/uploads/x":                  http.StatusNotFound,
				"/v2//" + private + "/manifests/v1":                    http.StatusNotFound,
				"/v2/library/base/../../" + private + "/manifests/v1":  http.StatusNotFound,
				"/v2/library/base/%2e%2e/" + private + "/manifests/v1": http.StatusNotFound,
				"/V2/" + private + "/manifests/v1":                     http.StatusNotFound,
				"/v2/" + private + "/manifests/v1/":                    http.StatusNotFound,
				"/v2/" + private + "/blobs/" + layer + "/":             http.StatusNotFound,
				"/v2/" + strings.ToUpper(private) + "/manifests/v1":    http.StatusNotFound,
				"/metrics": http.StatusNotFound,
				"/debug/":  http.StatusNotFound,
			} {
				status, _, body := t.status(a, http.MethodGet, path, nil)
				Expect(status).To(Equal(expected), path+" as "+a.Username)
				Expect(body).NotTo(ContainSubstring("team-a"))
			}
		}
		status, header, _ := t.status(none, http.MethodGet, "/v2/", nil)
		Expect(status).To(Equal(http.StatusUnauthorized))
		Expect(header.Get("WWW-Authenticate")).To(HavePrefix("Basic "))
		status, _, _ = t.status(alice, http.MethodGet, "/v2/", nil)
		Expect(status).To(Equal(http.StatusOK))
		status, _, _ = t.status(none, http.MethodPost, "/v2/"+private+"/blobs/uploads/", nil)
		Expect(status).To(Equal(http.StatusMethodNotAllowed))
	})

	It("let a tenant go on while the upstream is down, for as long as an outage extends grants, and admit no newcomer", func() {
		t := newTenants(upstreamsim.Options{}, func(o *pullthrough.Options) { o.Access.OutageGrantDuration = 2 * time.Hour })
		t.pullStored(alice, shared)
		t.pullStored(none, public)
		t.Upstream.Refuse()
		for range 10 {
			t.pass(grantDuration + time.Second)
			Expect(t.pull(alice, shared)).To(Succeed())
			Expect(t.pull(none, public)).To(Succeed())
			Expect(pull.StatusOf(t.pull(bob, shared))).To(Equal(http.StatusServiceUnavailable))
			Expect(pull.StatusOf(t.pull(none, shared))).To(Equal(http.StatusUnauthorized))
		}
		t.pass(2 * time.Hour)
		Expect(pull.StatusOf(t.pull(alice, shared))).To(Equal(http.StatusServiceUnavailable))
		Expect(t.Upstream.Accept()).To(Succeed())
		Eventually(func() error { return t.pull(alice, shared) }).Should(Succeed())
		Expect(t.pull(bob, shared)).To(Succeed())
	})

	It("let a tenant go on while the upstream limits the rate of requests", func() {
		t := newTenants(upstreamsim.Options{}, nil)
		t.pullStored(alice, shared)
		Expect(t.pull(none, public)).To(Succeed())
		t.Upstream.Misbehave(upstreamsim.Faults{Status: http.StatusTooManyRequests})
		t.pass(grantDuration + time.Second)
		Expect(t.pull(alice, shared)).To(Succeed())
		Expect(pull.StatusOf(t.pull(bob, shared))).To(Equal(http.StatusTooManyRequests))
		for _, repository := range []string{shared, public} {
			Expect(pull.StatusOf(t.pull(none, repository))).To(Equal(http.StatusUnauthorized))
		}
		t.pass(2 * grantDuration)
		Expect(pull.StatusOf(t.pull(alice, shared))).To(Equal(http.StatusTooManyRequests), "but not for as long as an outage")
	})

	It("challenge a client where the rate limit stops the anonymous check", func() {
		t := newTenants(upstreamsim.Options{}, nil)
		t.Upstream.Wrap(func(registry http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == upstreamsim.TokenPath && r.Header.Get("Authorization") == "" {
					w.WriteHeader(http.StatusTooManyRequests)
					return
				}
				registry.ServeHTTP(w, r)
			})
		})
		Expect(pull.StatusOf(t.pull(none, public))).To(Equal(http.StatusUnauthorized))
		Expect(t.pull(alice, shared)).To(Succeed())
	})

	It("pay for what the cache's own credential may not read", func() {
		for _, denial := range []upstreamsim.Denial{upstreamsim.DenyObject, upstreamsim.DenyToken, upstreamsim.Hide} {
			t := newTenants(upstreamsim.Options{Denial: denial}, func(o *pullthrough.Options) {
				o.Credential = credentials.Credential{Username: bob.Username, Password: bob.Password}
			})
			t.pullStored(alice, private)
			Expect(t.Upstream.Counters().Bytes).To(Equal(t.images[private].Size()))
			for _, a := range []upstreamsim.Account{bob, none} {
				Expect(pull.StatusOf(t.pull(a, private))).To(BeElementOf(http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound))
			}
			refused := t.asked(bob)
			t.Upstream.Push(private, "v1", upstreamsim.RandomImage(9, 2, 10_000))
			Expect(t.pull(alice, private)).To(Succeed())
			Expect(t.asked(bob)).To(Equal(refused), "the cache knows that its own credential is of no use")
		}
	})

	It("end with the permission at the next check", func() {
		for _, denial := range []upstreamsim.Denial{upstreamsim.DenyObject, upstreamsim.DenyToken, upstreamsim.Hide} {
			t := newTenants(upstreamsim.Options{Denial: denial}, own)
			t.pullStored(alice, shared)
			Expect(t.pull(bob, shared)).To(Succeed())
			t.people.remove("alice")
			Expect(t.pull(alice, shared)).To(Succeed(), "until the grant ends")
			t.pass(grantDuration + time.Second)
			Expect(pull.StatusOf(t.pull(alice, shared))).To(Equal(http.StatusForbidden))
			Expect(t.pull(bob, shared)).To(Succeed())
			t.Upstream.Refuse()
			t.pass(time.Hour)
			for _, path := range []string{"/manifests/v1", "/manifests/" + t.images[shared].Digest().String(), "/blobs/" + t.layer(shared), "/tags/list"} {
				for _, method := range []string{http.MethodHead, http.MethodGet} {
					status, _, _ := t.status(alice, method, "/v2/"+shared+path, nil)
					Expect(status).To(BeElementOf(http.StatusForbidden, http.StatusServiceUnavailable), path+": no outage restores it")
				}
			}
			Expect(t.pull(bob, shared)).To(Succeed())
		}
	})

	It("end with the permission while only the blobs of the upstream are unavailable", func() {
		t := newTenants(upstreamsim.Options{}, nil)
		Expect(t.pull(alice, shared)).To(Succeed())
		for repository, a := range map[string]upstreamsim.Account{private: alice, public: none} {
			status, _, _ := t.status(a, http.MethodGet, "/v2/"+repository+"/manifests/v1", nil)
			Expect(status).To(Equal(http.StatusOK))
		}
		t.Upstream.Misbehave(upstreamsim.Faults{
			Only: []upstreamsim.Kind{upstreamsim.BlobGet, upstreamsim.BlobHead}, Status: http.StatusServiceUnavailable,
		})
		Eventually(func() bool {
			// Blobs of two repositories, without the manifests: their success shows that the upstream is up.
			for repository, a := range map[string]upstreamsim.Account{private: alice, public: none} {
				_, _, _ = t.status(a, http.MethodGet, "/v2/"+repository+"/blobs/"+t.layer(repository), nil)
			}
			return t.Engine.Status().Upstream.Reachable
		}).Should(BeFalse())
		t.people.remove("alice")
		t.pass(grantDuration + time.Second)
		Eventually(func() int { return pull.StatusOf(t.pull(alice, shared)) }).Should(Equal(http.StatusForbidden))
	})

	It("do not use a token that is older than the grant", func() {
		t := newTenants(upstreamsim.Options{}, nil)
		Expect(t.pull(alice, shared)).To(Succeed())
		issued := t.attempts(alice)
		t.pass(grantDuration + time.Second)
		Expect(t.pull(alice, shared)).To(Succeed())
		Expect(t.attempts(alice)).To(BeNumerically(">", issued))
	})

	DescribeTable("make containerd", func(a upstreamsim.Account, requests int, succeeds bool) {
		t := newTenants(upstreamsim.Options{}, own)
		Expect(t.pull(alice, private)).To(Succeed())
		var sent atomic.Int32
		client := &http.Client{Transport: counted{&sent, http.DefaultTransport}}
		resolver := docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(
			docker.WithPlainHTTP(docker.MatchAllHosts), docker.WithClient(client),
			docker.WithAuthorizer(docker.NewDockerAuthorizer(docker.WithAuthClient(client), docker.WithAuthCreds(
				func(string) (string, string, error) { return a.Username, a.Password, nil },
			))),
		)})
		_, found, err := resolver.Resolve(context.Background(), strings.TrimPrefix(t.Server.URL, "http://")+"/"+private+":v1")
		if succeeds {
			Expect(err).NotTo(HaveOccurred())
			Expect(found.Digest).To(Equal(t.images[private].Digest()))
		} else {
			Expect(err).To(HaveOccurred())
		}
		if requests == 3 {
			Expect(err).To(MatchError(ContainSubstring("this credential may not pull from the repository")))
		}
		Expect(int(sent.Load())).To(Equal(requests))
	},
		Entry("present the pull secret", alice, 2, true),
		// After a HEAD that is refused, containerd asks for the reason with a GET.
		Entry("present one without permission, and not again", bob, 3, false),
		Entry("present a wrong one, and not again", wrong, 3, false),
		Entry("go on without one", none, 1, false),
	)

	It("let a tenant go on while the upstream hangs", func() {
		t := newTenants(upstreamsim.Options{}, func(o *pullthrough.Options) {
			o.ValidationTimeout, o.SuspectTimeout, o.Timeouts.FirstByte = 200*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
		})
		t.pullStored(alice, shared)
		t.Upstream.Misbehave(upstreamsim.Faults{Hang: true})
		t.pass(grantDuration + time.Second)
		Expect(t.pull(alice, shared)).To(Succeed())
	})

	It("trust no page of a portal", func() {
		t := newTenants(upstreamsim.Options{}, own)
		t.pullStored(alice, shared)
		t.Upstream.Wrap(func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				_, _ = w.Write([]byte("<html>Log in</html>"))
			})
		})
		t.pass(grantDuration + time.Second)
		for _, a := range []upstreamsim.Account{none, bob, alice} {
			for _, path := range []string{"/manifests/v1", "/manifests/" + t.images[shared].Digest().String(), "/blobs/" + t.layer(shared), "/tags/list"} {
				status, _, _ := t.status(a, http.MethodGet, "/v2/"+shared+path, nil)
				if a.Username == "" {
					Expect(status).To(Equal(http.StatusUnauthorized), path)
					continue
				}
				Expect(status).To(BeElementOf(http.StatusServiceUnavailable, http.StatusTooManyRequests), path+" as "+a.Username)
			}
		}
	})

	It("are checked once for many clients at a time", func() {
		t := newTenants(upstreamsim.Options{}, own)
		t.Upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.Token}, Hold: true})
		var arrived atomic.Int32
		DeferCleanup(t.Server.Close)
		t.Server = t.Serve(func(server *http.Server) {
			next := server.Handler
			server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				arrived.Add(1)
				next.ServeHTTP(w, r)
			})
		})
		var done sync.WaitGroup
		for i := range 64 {
			done.Go(func() {
				defer GinkgoRecover()
				Expect(t.pull([]upstreamsim.Account{alice, bob}[i%2], shared)).To(Succeed())
			})
		}
		Eventually(arrived.Load).Should(BeEquivalentTo(64), "all arrive before the first of them is served")
		t.Upstream.Misbehave(upstreamsim.Faults{})
		done.Wait()
		Expect(t.Upstream.Counters().Bytes).To(Equal(t.images[shared].Size()))
		Expect(t.asked(alice, upstreamsim.ManifestHead)).To(Equal(1))
		Expect(t.asked(bob, upstreamsim.ManifestHead)).To(Equal(1))
		Expect(t.attempts(alice)).To(Equal(1))
		Expect(t.attempts(bob)).To(Equal(1))
	})

	It("cost nothing upstream but the validation of tags once they are checked", func() {
		t := newTenants(upstreamsim.Options{}, own)
		Expect(t.pull(alice, private)).To(Succeed())
		digest := t.images[private].Digest().String()
		layer := t.images[private].Layers()[0].Descriptor().Digest.String()
		Eventually(func() int { // A client has the last byte before the blob is stored.
			t.seen.Reset()
			_, _, _ = t.status(alice, http.MethodHead, "/v2/"+private+"/blobs/"+layer, nil)
			return len(t.seen.Requests(objects...))
		}).Should(BeZero())
		for range 3 {
			for _, path := range []string{"/manifests/" + digest, "/blobs/" + layer} {
				for _, method := range []string{http.MethodHead, http.MethodGet} {
					status, _, _ := t.status(alice, method, "/v2/"+private+path, nil)
					Expect(status).To(Equal(http.StatusOK))
				}
			}
		}
		Expect(t.seen.Requests(objects...)).To(BeEmpty())
		Expect(t.pull(alice, private)).To(Succeed())
		Expect(t.seen.Requests(objects...)).To(HaveLen(1), "to validate the tag")
	})

	It("neither ask again for a credential that was refused, nor lock its user out", func() {
		t := newTenants(upstreamsim.Options{}, own)
		for range 10 {
			Expect(pull.StatusOf(t.pull(wrong, private))).To(Equal(http.StatusForbidden))
		}
		Expect(t.attempts(alice)).To(Equal(1))
		t.pass(time.Minute + time.Second)
		Expect(pull.StatusOf(t.pull(wrong, private))).To(Equal(http.StatusForbidden))
		Expect(t.attempts(alice)).To(Equal(2))
		t.pass(time.Minute + time.Second)
		Expect(pull.StatusOf(t.pull(wrong, private))).To(Equal(http.StatusForbidden))
		Expect(t.attempts(alice)).To(Equal(2), "the next attempt has to wait twice as long")
		Expect(t.pull(alice, private)).To(Succeed(), "the right password is not affected")
	})

	It("limit the guesses of one user name, and of one address", func() {
		t := newTenants(upstreamsim.Options{}, own)
		Expect(t.pull(bob, shared)).To(Succeed())
		t.seen.Reset()
		var statuses []int
		for i := range 20 { // The cache sees one address.
			statuses = append(statuses, pull.StatusOf(t.pull(upstreamsim.Account{Username: "alice", Password: fmt.Sprintf("canary-%d", i)}, private)))
		}
		Expect(t.attempts(alice)).To(Equal(5))
		Expect(statuses[:5]).To(HaveEach(http.StatusForbidden))
		Expect(statuses[5:]).To(HaveEach(http.StatusTooManyRequests))
		for i := range 100 {
			_ = t.pull(upstreamsim.Account{Username: fmt.Sprintf("user%d", i), Password: "canary"}, private)
		}
		guesses := 0
		for _, request := range t.seen.Requests(upstreamsim.Token) {
			if request.User != "" && request.User != admin.Username {
				guesses++
			}
		}
		Expect(guesses).To(Equal(10))
		t.pass(30 * time.Second)
		Expect(t.pull(bob, shared)).To(Succeed(), "a known credential is no guess")
		t.pass(time.Minute)
		Expect(t.pull(alice, private)).To(Succeed())
	})

	It("let the client pay for what the credential of the cache cannot read", func() {
		t := newTenants(upstreamsim.Options{}, func(o *pullthrough.Options) {
			o.Credential = credentials.Credential{Username: bob.Username, Password: bob.Password}
		})
		Expect(t.pull(alice, private)).To(Succeed())
		Expect(t.asked(alice, upstreamsim.BlobGet)).To(Equal(3))
		Expect(t.pull(alice, shared)).To(Succeed())
		Expect(t.asked(bob, upstreamsim.BlobGet)).To(BeNumerically(">=", 3), "it pays for what it can read")
		Expect(t.Engine.Credentials().State).NotTo(BeEquivalentTo("Rejected"))
	})

	DescribeTable("do not open a blob of another repository by the name of an own one", func(change func(*pullthrough.Options), cached bool) {
		t := newTenants(upstreamsim.Options{SharedBlobs: true}, change)
		if cached {
			Expect(t.pull(alice, private)).To(Succeed())
		}
		Expect(t.pull(alice, shared)).To(Succeed())
		Expect(t.pull(bob, shared)).To(Succeed())
		secret := t.images[private].Layers()[0].Descriptor().Digest
		// An image of the attacker that claims to have the blob proves nothing.
		t.Upstream.PushManifest(shared, "claim", claimOf(t.images[shared], secret))
		status, _, _ := t.status(bob, http.MethodGet, "/v2/"+shared+"/manifests/claim", nil)
		Expect(status).To(Equal(http.StatusOK))
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			status, _, _ := t.status(bob, method, "/v2/"+shared+"/blobs/"+secret.String(), nil)
			Expect(status).To(Equal(http.StatusNotFound))
			status, _, _ = t.status(none, method, "/v2/"+public+"/blobs/"+secret.String(), nil)
			Expect(status).To(Equal(http.StatusUnauthorized))
		}
	},
		Entry("with a credential of the cache that reads it", own, true),
		Entry("with a credential of the cache, before it is cached", own, false),
		Entry("with the credential of a client that reads it", nil, true),
	)

	Describe("beside accounts of the cache", func() {
		withAccounts := func(o *pullthrough.Options) {
			file := filepath.Join(GinkgoT().TempDir(), "accounts.json")
			content, err := cacheconfig.Accounts{Accounts: []cacheconfig.Account{
				{Name: "all", Repositories: []string{"*"}, Passwords: []cacheconfig.PasswordHash{cacheconfig.HashPassword(everything.Password, nil)}},
				{Name: "team", Repositories: []string{shared}, Passwords: []cacheconfig.PasswordHash{cacheconfig.HashPassword(teamOnly.Password, nil)}},
			}}.Marshal()
			Expect(err).NotTo(HaveOccurred())
			Expect(os.WriteFile(file, content, 0o600)).To(Succeed())
			o.Access.AccountsFile = file
		}
		// claim pushes an image to a repository that lists a blob of another, and reads it.
		claim := func(t *tenants, a upstreamsim.Account, blob digest.Digest) {
			GinkgoHelper()
			t.Upstream.PushManifest(shared, "claim", claimOf(t.images[shared], blob))
			status, _, _ := t.status(a, http.MethodGet, "/v2/"+shared+"/manifests/claim", nil)
			Expect(status).To(Equal(http.StatusOK))
		}

		It("never serve an account what only a tenant may read", func() {
			t := newTenants(upstreamsim.Options{}, withAccounts)
			image := t.images[private]
			layer := image.Layers()[0].Descriptor().Digest.String()
			t.Upstream.Push(private, "v2", upstreamsim.RandomImage(7, 1, 10_000))
			for range 2 {
				for _, path := range []string{
					"/manifests/v1", "/manifests/v2", "/manifests/" + image.Digest().String(), "/blobs/" + layer, "/tags/list",
					"/referrers/" + image.Digest().String(),
				} {
					for _, method := range []string{http.MethodHead, http.MethodGet} {
						status, _, _ := t.status(everything, method, "/v2/"+private+path, nil)
						Expect(status).To(Equal(http.StatusForbidden), path)
					}
				}
				Expect(t.pull(alice, private)).To(Succeed())
				t.pass(2*grantDuration + 10*time.Minute) // The cache asks again.
				Expect(t.pull(alice, private)).To(Succeed())
			}
			Expect(t.pull(everything, public)).To(Succeed())
		})

		It("serve an account what the credential of the cache may read, and what is public", func() {
			t := newTenants(upstreamsim.Options{}, func(o *pullthrough.Options) { withAccounts(o); own(o) })
			for _, repository := range []string{private, shared, public} {
				Expect(t.pull(everything, repository)).To(Succeed())
			}
			Expect(t.asked(admin, upstreamsim.BlobGet)).To(BeNumerically(">=", 6))
			Expect(t.pull(teamOnly, shared)).To(Succeed())
			Expect(pull.StatusOf(t.pull(teamOnly, private))).To(Equal(http.StatusForbidden))
			Expect(t.Value("access_requests_total", "result", "account")).To(BeNumerically(">=", 10))
			for _, kind := range []upstreamsim.Kind{upstreamsim.ManifestGet, upstreamsim.Token} {
				for _, request := range t.seen.Requests(kind) {
					Expect(request.User).NotTo(HavePrefix(cacheconfig.AccountPrefix))
				}
			}
		})

		DescribeTable("do not open to a tenant what an account finds", func(cached bool) {
			t := newTenants(upstreamsim.Options{SharedBlobs: true}, func(o *pullthrough.Options) { withAccounts(o); own(o) })
			if cached {
				Expect(t.pull(alice, private)).To(Succeed())
			}
			secret := t.images[private].Layers()[0].Descriptor().Digest
			claim(t, bob, secret)
			path := "/v2/" + shared + "/blobs/" + secret.String()
			for _, method := range []string{http.MethodHead, http.MethodGet} {
				status, _, _ := t.status(everything, method, path, nil)
				Expect(status).To(Equal(http.StatusOK))
			}
			Eventually(func() int { // A client has the last byte before the blob is stored.
				t.seen.Reset()
				_, _, _ = t.status(everything, http.MethodHead, path, nil)
				return len(t.seen.Requests(upstreamsim.BlobHead))
			}).Should(BeZero())
			for _, method := range []string{http.MethodHead, http.MethodGet} {
				status, _, _ := t.status(bob, method, path, nil)
				Expect(status).To(Equal(http.StatusNotFound))
			}
			Expect(t.pull(everything, shared)).To(Succeed())
			Expect(t.pull(bob, shared)).To(Succeed())
			Expect(t.pull(alice, private)).To(Succeed())
			Expect(t.Upstream.Counters().MostRequested()).To(BeNumerically("<=", 2), "one copy serves both")
		},
			Entry("that a tenant has fetched", true),
			Entry("that it fetches itself", false),
		)

		It("do not open to a tenant a manifest that an account finds by its digest", func() {
			t := newTenants(upstreamsim.Options{Authentication: upstreamsim.Basic}, func(o *pullthrough.Options) { withAccounts(o); own(o) })
			m := t.images[private]
			path := "/v2/" + shared + "/manifests/" + m.Digest().String()
			var finder atomic.Value // The user for whom the upstream finds it.
			finder.Store(admin.Username)
			t.Upstream.Wrap(func(registry http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if user, _, _ := r.BasicAuth(); r.URL.Path != path || user != finder.Load() {
						registry.ServeHTTP(w, r)
						return
					}
					w.Header().Set("Docker-Content-Digest", m.Digest().String())
					w.Header().Set("Content-Type", m.Manifest.MediaType)
					if r.Method == http.MethodGet {
						_, _ = w.Write(m.Manifest.Data)
					}
				})
			})
			get := func(a upstreamsim.Account) int {
				status, _, _ := t.status(a, http.MethodGet, path, nil)
				return status
			}
			Expect(t.pull(bob, shared)).To(Succeed())
			for _, restart := range []bool{false, true} { // From memory, and from the disk.
				if restart {
					t.Restart(func(o *pullthrough.Options) {
						o.Access.Mode, o.Access.GrantDuration = access.PullSecrets, grantDuration
						o.Now = func() time.Time { return time.Now().Add(time.Duration(t.elapsed.Load())) }
						withAccounts(o)
						own(o)
					})
				}
				Expect(get(everything)).To(Equal(http.StatusOK))
				Expect(get(bob)).To(Equal(http.StatusNotFound))
			}
			Expect(t.asked(admin, upstreamsim.ManifestGet)).To(BeNumerically("<=", 2), "the account has a copy")

			finder.Store(bob.Username)
			t.pass(time.Minute) // The refusal is remembered briefly.
			Expect(get(bob)).To(Equal(http.StatusOK))
			finder.Store("nobody")
			t.pass(grantDuration)
			Expect(t.pull(bob, shared)).To(Succeed()) // It renews the permission to read the repository,
			Expect(get(bob)).To(Equal(http.StatusOK)) // which has the manifest for bob as well by now.
		})

		It("do not open a blob of another repository to an account by an image that claims it", func() {
			t := newTenants(upstreamsim.Options{}, func(o *pullthrough.Options) {
				withAccounts(o)
				own(o)
				o.Access.Mode, o.Access.ClientCAFile = access.Nodes, filepath.Join(GinkgoT().TempDir(), "ca.crt")
				authority, err := pki.NewAuthority("nodes")
				Expect(err).NotTo(HaveOccurred())
				Expect(os.WriteFile(o.Access.ClientCAFile, authority.Certificate, 0o600)).To(Succeed())
			})
			Expect(t.pull(everything, private)).To(Succeed())
			secret := t.images[private].Layers()[0].Descriptor().Digest
			for _, a := range []upstreamsim.Account{everything, teamOnly} {
				claim(t, a, secret)
				for _, method := range []string{http.MethodHead, http.MethodGet} {
					status, _, _ := t.status(a, method, "/v2/"+shared+"/blobs/"+secret.String(), nil)
					Expect(status).To(Equal(http.StatusNotFound))
				}
			}
			Expect(t.pull(teamOnly, shared)).To(Succeed())
		})
	})

	It("serve a repository that has become public, whatever became of the credential", func() {
		t := newTenants(upstreamsim.Options{Denial: upstreamsim.DenyToken}, nil)
		Expect(t.pull(alice, private)).To(Succeed())
		t.people.remove("alice")
		t.Upstream.Wrap(func(registry http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "" && strings.HasPrefix(r.URL.Path, "/v2/"+private) {
					w.Header().Set("Docker-Content-Digest", t.images[private].Digest().String())
					return
				}
				registry.ServeHTTP(w, r)
			})
		})
		t.pass(2 * grantDuration)
		status, _, _ := t.status(alice, http.MethodHead, "/v2/"+private+"/manifests/"+t.images[private].Digest().String(), nil)
		Expect(status).To(Equal(http.StatusOK))
	})

	It("count again as soon as a repository is no longer public", func() {
		t := newTenants(upstreamsim.Options{Authentication: upstreamsim.Basic}, nil)
		var closed atomic.Bool
		t.Upstream.Wrap(func(registry http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "" && strings.HasPrefix(r.URL.Path, "/v2/"+private) && !closed.Load() {
					r.SetBasicAuth(alice.Username, alice.Password)
				}
				registry.ServeHTTP(w, r)
			})
		})
		Expect(t.pull(none, private)).To(Succeed())
		closed.Store(true)
		t.Upstream.Push(private, "v2", upstreamsim.RandomImage(9, 2, 10_000))
		_, err := t.as(alice).Image(context.Background(), private, "v2")
		Expect(pull.StatusOf(err)).To(Equal(http.StatusBadGateway), "the cache still believes that it is public")
		_, err = t.as(alice).Image(context.Background(), private, "v2")
		Expect(err).NotTo(HaveOccurred())
		Expect(pull.StatusOf(t.pull(none, private))).To(Equal(http.StatusUnauthorized))
	})

	It("name no repository in metrics", func() {
		start := func(mode access.Mode) *tenants {
			dir := GinkgoT().TempDir()
			for name, content := range map[string]string{credentials.UsernameKey: alice.Username, credentials.PasswordKey: alice.Password} {
				Expect(os.WriteFile(filepath.Join(dir, "a."+name), []byte(content), 0o600)).To(Succeed())
			}
			t := newTenants(upstreamsim.Options{}, func(o *pullthrough.Options) {
				own(o)
				o.Access.Mode = mode
				o.RepositoryCredentials = []pullthrough.RepositoryCredential{{Directory: dir, Prefix: "a.", Repositories: []string{"team-a"}}}
			})
			Expect(t.pull(alice, private)).To(Succeed())
			return t
		}
		t := start(access.Cluster)
		// Otherwise, the mode shows nothing.
		Eventually(t.Labels).Should(ContainElements("team-a", private))
		Expect(t.Value("repository_pulled_bytes_total")).To(BeNumerically(">", 0))
		t = start(access.PullSecrets)
		Eventually(t.Labels).Should(ContainElement("1"))
		Expect(t.Labels()).NotTo(ContainElement(ContainSubstring("team")))
		Expect(t.Value("repository_pulled_bytes_total")).To(BeZero())
		Expect(t.Value("access_requests_total", "result", "granted")).To(BeNumerically(">=", 5))
		Expect(t.Value("access_requests_total", "result", "challenged")).To(Equal(1.0), "once for the pull")
	})

	It("are not asked for again after a missing tag", func() {
		t := newTenants(upstreamsim.Options{}, nil)
		status, _, _ := t.status(alice, http.MethodHead, "/v2/"+shared+"/manifests/missing", nil)
		Expect(status).To(Equal(http.StatusNotFound))
		asked := len(t.seen.Requests())
		status, _, _ = t.status(alice, http.MethodHead, "/v2/"+shared+"/manifests/missing", nil)
		Expect(status).To(Equal(http.StatusNotFound))
		Expect(t.seen.Requests()).To(HaveLen(asked))
		Expect(t.pull(alice, shared)).To(Succeed())
	})
})
