// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/credentials"
)

const password = "an-obvious-test-password"

var blob = digest.FromString("blob")

// observer records its calls.
type observer struct {
	mu       sync.Mutex
	requests map[string]int
	up       []bool
	left     map[string]int64
}

func (o *observer) Request(kind string, status int, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests[fmt.Sprintf("%s %d", kind, status)]++
}

func (o *observer) Health(up bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.up = append(o.up, up)
}

func (o *observer) BudgetExpired(scope string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.left, scope)
}

func (o *observer) Budget(scope string, _, remaining int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left[scope] = remaining
}

func newObserver() *observer {
	return &observer{requests: map[string]int{}, left: map[string]int64{}}
}

// notIssuedError has no credential, for now or until its owner changes something.
type notIssuedError struct{ temporary bool }

func (n notIssuedError) For(context.Context, string) (string, credentials.Credential, error) {
	return "", credentials.Credential{}, n
}

func (n notIssuedError) Error() string { return "not issued: " + password }

func (n notIssuedError) Temporary() bool { return n.temporary }

// credentialsFor has one credential for all repositories, which a test may replace.
type credentialsFor struct{ current atomic.Value }

func (c *credentialsFor) For(context.Context, string) (string, credentials.Credential, error) {
	stored, ok := c.current.Load().(credentials.Credential)
	if !ok {
		return "", credentials.Credential{}, errors.New("unreadable: " + password)
	}
	return "", stored, nil
}

func (c *credentialsFor) set(password string) {
	c.current.Store(credentials.Credential{Username: "robot", Password: password})
}

// renewer has other credentials for rejected requests.
type renewer struct {
	*credentialsFor
	others   []credentials.Credential
	outcomes []string
}

func (r *renewer) Renew(_ context.Context, rejected []credentials.Credential) (credentials.Credential, bool) {
	for _, c := range r.others {
		if !slices.Contains(rejected, c) {
			return c, true
		}
	}
	return credentials.Credential{}, false
}

func (r *renewer) Accepted(c credentials.Credential, rejected []credentials.Credential) {
	r.outcomes = append(r.outcomes, fmt.Sprint(c.Password, " after ", len(rejected)))
}

var _ = Describe("Client", func() {
	var (
		mux     *http.ServeMux
		server  *httptest.Server
		options remote.Options
		seen    *observer
		secrets *credentialsFor
	)

	BeforeEach(func() {
		mux = http.NewServeMux()
		server = httptest.NewServer(mux)
		DeferCleanup(server.Close)
		seen = newObserver()
		secrets = &credentialsFor{}
		secrets.set(password)
		options = remote.Options{
			URL: server.URL, Observer: seen, Credentials: secrets,
			Timeouts: remote.Timeouts{Connect: time.Minute, FirstByte: time.Minute, Idle: time.Minute},
		}
	})

	client := func() *remote.Client {
		GinkgoHelper()
		c, err := remote.New(options)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(c.Close)
		return c
	}
	// bearer requires a token, and issues tokens for one password.
	bearer := func(realm string, accepted *atomic.Value) (tokens *atomic.Int32) {
		tokens = &atomic.Int32{}
		mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
			if _, sent, _ := r.BasicAuth(); sent != accepted.Load() {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]string{"token": fmt.Sprintf("t%d-%s", tokens.Add(1), accepted.Load())})
		})
		mux.HandleFunc("/v2/", func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.Header.Get("Authorization"), "-"+accepted.Load().(string)) {
				w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`",service="s"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_, _ = w.Write([]byte("blob"))
		})
		return tokens
	}
	accepting := func(password string) *atomic.Value {
		v := &atomic.Value{}
		v.Store(password)
		return v
	}
	get := func(ctx context.Context, c *remote.Client) error {
		b, err := c.FetchBlob(ctx, "library/app", blob, remote.Position{})
		if err != nil {
			return err
		}
		_, err = io.ReadAll(b.Body)
		return errors.Join(err, b.Body.Close())
	}

	Context("with tokens", func() {
		It("requests one token for concurrent requests", func(ctx context.Context) {
			tokens := bearer(server.URL+"/token", accepting(password))
			// The first token is issued once a second request needs one.
			var wanted atomic.Int32
			another := make(chan struct{})
			server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/token" {
					<-another
				} else if r.Header.Get("Authorization") == "" && wanted.Add(1) == 2 {
					close(another)
				}
				mux.ServeHTTP(w, r)
			})
			c := client()
			var done sync.WaitGroup
			for range 20 {
				done.Go(func() {
					defer GinkgoRecover()
					Expect(get(ctx, c)).To(Succeed())
				})
			}
			done.Wait()
			Expect(tokens.Load()).To(BeEquivalentTo(1))
			Expect(seen.requests).To(HaveKeyWithValue("token 200", 1))
		})

		It("drops the token of a credential that was replaced", func(ctx context.Context) {
			accepted := accepting(password)
			bearer(server.URL+"/token", accepted)
			c := client()
			Expect(get(ctx, c)).To(Succeed())
			secrets.set("wrong")
			Expect(remote.Is(get(ctx, c), remote.Unauthorized)).To(BeTrue(), "its Credentials decide, not the client")
			secrets.set("second-test-password")
			accepted.Store("second-test-password")
			Expect(get(ctx, c)).To(Succeed())
		})

		It("asks for another credential while the upstream rejects one", func(ctx context.Context) {
			accepted := accepting(password)
			tokens := bearer(server.URL+"/token", accepted)
			first := credentials.Credential{Username: "robot", Password: password}
			wrong := credentials.Credential{Username: "robot", Password: "wrong"}
			renewing := &renewer{credentialsFor: secrets, others: []credentials.Credential{wrong, first}}
			options.Credentials = renewing
			c := client()
			Expect(get(ctx, c)).To(Succeed())
			Expect(get(ctx, c)).To(Succeed())
			Expect(renewing.outcomes).To(Equal([]string{password + " after 0"}), "only the first success is news")

			secrets.set("new")
			Expect(get(ctx, c)).To(Succeed())
			Expect(renewing.outcomes).To(Equal([]string{password + " after 0", password + " after 2"}))
			Expect(tokens.Load()).To(BeEquivalentTo(2))

			By("giving up when there is no other")
			accepted.Store("unknown")
			Expect(remote.Is(get(ctx, c), remote.Unauthorized)).To(BeTrue())
		})

		It("reports a rejected credential without showing it", func(ctx context.Context) {
			bearer(server.URL+"/token", accepting("another"))
			err := get(ctx, client())
			Expect(remote.Is(err, remote.Unauthorized)).To(BeTrue())
			Expect(err.Error()).To(ContainSubstring("401"))
			Expect(err.Error()).NotTo(ContainSubstring(password))
			Expect(err.Error()).NotTo(ContainSubstring("token?"))
		})

		It("makes no request if the credential cannot be read", func(ctx context.Context) {
			secrets.current = atomic.Value{}
			err := get(ctx, client())
			Expect(remote.Is(err, remote.Unauthorized)).To(BeTrue())
			Expect(err.Error()).NotTo(ContainSubstring(password))
			Expect(seen.requests).To(BeEmpty())
		})

		It("requests tokens from a realm on another host only if that is allowed", func(ctx context.Context) {
			var shown atomic.Int32
			foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				shown.Add(1)
				_ = json.NewEncoder(w).Encode(map[string]string{"token": "t-" + password})
			}))
			defer foreign.Close()
			bearer(foreign.URL+"/token", accepting(password))
			err := get(ctx, client())
			Expect(remote.Is(err, remote.Unauthorized)).To(BeTrue())
			Expect(err.Error()).To(ContainSubstring("realm"))
			Expect(shown.Load()).To(BeZero())

			options.AllowedRealms = []string{strings.TrimPrefix(foreign.URL, "http://")}
			Expect(get(ctx, client())).To(Succeed())
			Expect(shown.Load()).To(BeEquivalentTo(1))
		})
	})

	It("does not show the credential to the target of a redirect, and does not follow every redirect", func(ctx context.Context) {
		target := ""
		basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("robot:"+password))
		foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			Expect(r.Header).NotTo(HaveKey("Authorization"))
			if r.URL.Path == "/blob" {
				http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
				return
			}
			_, _ = w.Write([]byte("blob"))
		}))
		defer foreign.Close()
		options.AllowedRealms = []string{strings.TrimPrefix(foreign.URL, "http://")} // This allows a token service there, nothing else.
		mux.HandleFunc("/v2/", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != basic {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			http.Redirect(w, r, target, http.StatusTemporaryRedirect)
		})
		c := client()
		target = foreign.URL + "/blob?signature=secret"
		Expect(get(ctx, c)).To(Succeed())
		Expect(seen.requests).To(HaveKeyWithValue("redirect 200", 1))
		Expect(seen.requests).To(HaveKeyWithValue("redirect 307", 1))

		for _, target = range []string{"http://169.254.169.254/latest", "ftp://example.com/", server.URL + "/v2/loop"} {
			Expect(remote.Is(get(ctx, c), remote.Unavailable)).To(BeTrue(), target)
		}
		foreign.Close()
		target = foreign.URL + "/blob?signature=secret"
		Expect(get(ctx, c).Error()).NotTo(ContainSubstring("signature"))
	})

	It("obeys a rate limit for all requests with the credential", func(ctx context.Context) {
		now := time.Now()
		options.Now = func() time.Time { return now }
		var asked atomic.Int32
		mux.HandleFunc("/v2/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("RateLimit-Limit", "100;w=21600")
			w.Header().Set("RateLimit-Remaining", "0;w=21600")
			if asked.Add(1) == 1 {
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(http.StatusTooManyRequests)
			}
		})
		c := client()
		for range 3 {
			err := get(ctx, c)
			var limited *remote.Error
			Expect(errors.As(err, &limited)).To(BeTrue())
			Expect(limited.Reason).To(Equal(remote.RateLimited))
			Expect(limited.RetryAfter).To(Equal(7 * time.Second))
		}
		Expect(asked.Load()).To(BeEquivalentTo(1))
		now = now.Add(8 * time.Second)
		Expect(get(ctx, c)).To(Succeed())
		Expect(seen.left).To(HaveKeyWithValue("", BeZero()))
	})

	It("resumes at an offset", func(ctx context.Context) {
		mux.HandleFunc("/v2/", func(w http.ResponseWriter, r *http.Request) {
			Expect(r.Header.Get("Range")).To(Equal("bytes=2-"))
			Expect(r.Header.Get("If-Range")).To(Equal(`"e"`))
			w.Header().Set("Content-Range", "bytes 2-3/4")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte("ob"))
		})
		b, err := client().FetchBlob(ctx, "a", blob, remote.Position{Offset: 2, ETag: `"e"`})
		Expect(err).NotTo(HaveOccurred())
		Expect(b.Offset).To(BeEquivalentTo(2))
		Expect(b.Size).To(BeEquivalentTo(4))
		Expect(io.ReadAll(b.Body)).To(Equal([]byte("ob")))
		Expect(b.Body.Close()).To(Succeed())
	})

	Context("of an upstream that stops responding", func() {
		var hanging chan struct{}

		BeforeEach(func() {
			hanging = make(chan struct{})
			mux.HandleFunc("/v2/", func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "slow") {
					_, _ = w.Write([]byte("b"))
					w.(http.Flusher).Flush()
				}
				<-hanging
			})
			DeferCleanup(func() { close(hanging) })
		})

		It("gives up in the middle of a body", func(ctx context.Context) {
			options.Timeouts.Idle = 100 * time.Millisecond
			c := client()
			b, err := c.FetchBlob(ctx, "slow", blob, remote.Position{})
			Expect(err).NotTo(HaveOccurred())
			_, err = io.ReadAll(b.Body)
			Expect(remote.Is(err, remote.Unavailable)).To(BeTrue())
			Expect(b.Body.Close()).To(Succeed())
			Expect(c.Healthy()).To(BeTrue())
		})

		It("gives up before a body, and counts it as down", func(ctx context.Context) {
			options.Timeouts.FirstByte = 100 * time.Millisecond
			c := client()
			for range 2 {
				err := get(ctx, c)
				Expect(remote.Is(err, remote.Unavailable)).To(BeTrue())
				Expect(err.Error()).To(ContainSubstring("in time"))
			}
			Expect(c.Healthy()).To(BeFalse())
			Expect(seen.up).To(Equal([]bool{false}))
		})
	})

	It("bounds and checks manifests", func(ctx context.Context) {
		content := []byte(`{}`)
		declared := ""
		mux.HandleFunc("/v2/", func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, digest.FromBytes(content).String()) {
				w.WriteHeader(http.StatusNotFound) // It does not confirm the digest of its content.
				return
			}
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json; charset=utf-8")
			w.Header().Set("Docker-Content-Digest", declared)
			_, _ = w.Write(content)
		})
		c := client()
		m, err := c.FetchManifest(ctx, "a", "v1")
		Expect(err).NotTo(HaveOccurred())
		Expect(m.Digest).To(Equal(digest.FromBytes(content)))
		Expect(m.MediaType).To(Equal("application/vnd.oci.image.manifest.v1+json"))
		declared = digest.FromString("other").String()
		_, err = c.FetchManifest(ctx, "a", "v1")
		Expect(remote.Is(err, remote.Invalid)).To(BeTrue())
		_, err = c.FetchManifest(ctx, "a", blob.String())
		Expect(remote.Is(err, remote.Invalid)).To(BeTrue())
		content = make([]byte, remote.MaxManifest+1)
		_, err = c.FetchManifest(ctx, "a", "v1")
		Expect(err).To(MatchError(ContainSubstring("larger")))
	})

	DescribeTable("rejects a URL that is not one of a registry", func(url string) {
		options.URL = url
		_, err := remote.New(options)
		Expect(err).To(HaveOccurred())
		Expect(err.Error()).NotTo(ContainSubstring(password))
	},
		Entry("another scheme", "ftp://example.com"),
		Entry("no host", "https:///v2"),
		Entry("a path", "https://example.com/team"),
		Entry("a query", "https://example.com?a=b"),
		Entry("user info", "https://robot:"+password+"@example.com"),
		Entry("garbage", "http://robot:"+password+"@exa mple.com:x"),
	)
})
