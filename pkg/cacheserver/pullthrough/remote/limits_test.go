// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/credentials"
)

// byRepository is a set with a credential for each repository.
type byRepository map[string]credentials.Credential

func (b byRepository) For(_ context.Context, repository string) (string, credentials.Credential, error) {
	return repository, b[repository], nil
}

func (byRepository) Serves(string) bool { return true }

func (b byRepository) All() []credentials.Credential { return slices.Collect(maps.Values(b)) }

var _ = Describe("Rate limits", func() {
	It("are reported for each active credential", func(ctx context.Context) {
		present := byRepository{"a": {Username: "a", Password: password}, "b": {Username: "b", Password: password}}
		candidates := byRepository{"a": {Username: "new", Password: password}, "b": present["b"]}
		seen := newObserver()
		c, err := remote.New(remote.Options{
			URL: "https://registry.example.com", Observer: seen, Credentials: present,
			Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
				user, _, ok := req.BasicAuth()
				if !ok {
					return response(req, http.StatusUnauthorized, http.Header{"Www-Authenticate": {`Basic realm="x"`}}), nil
				}
				left := map[string]string{"a": "1", "b": "2", "new": "3"}[user]
				return response(req, http.StatusOK, http.Header{"Ratelimit-Limit": {"100"}, "Ratelimit-Remaining": {left}}), nil
			}),
		})
		Expect(err).NotTo(HaveOccurred())
		for _, repository := range []string{"a", "b"} {
			_, err := c.Resolve(ctx, repository, "v1")
			Expect(err).NotTo(HaveOccurred())
		}
		Expect(c.Check(ctx, candidates, present)).To(Succeed())
		Expect(seen.left).To(Equal(map[string]int64{"a": 1, "b": 2}))
	})

	DescribeTable("of the target of a redirect", func(ctx context.Context, location string, limitsAPI bool) {
		seen := newObserver()
		c, err := remote.New(remote.Options{
			URL: "https://registry.example.com", Observer: seen, Timeouts: remote.DefaultTimeouts,
			Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
				switch {
				case req.Response != nil:
					return response(req, http.StatusTooManyRequests, http.Header{
						"Retry-After": {"60"}, "Ratelimit-Limit": {"5"}, "Ratelimit-Remaining": {"0"},
					}), nil
				case strings.Contains(req.URL.Path, "/blobs/"):
					return response(req, http.StatusTemporaryRedirect, http.Header{"Location": {location}}), nil
				}
				return response(req, http.StatusOK, http.Header{}), nil
			}),
		})
		Expect(err).NotTo(HaveOccurred())
		_, err = c.FetchBlob(ctx, "a", digest.FromString("blob"), remote.Position{})
		Expect(err).To(And(HaveField("Reason", remote.RateLimited), HaveField("RetryAfter", time.Minute)))
		_, err = c.Resolve(ctx, "a", "v1")
		Expect(remote.Is(err, remote.RateLimited)).To(Equal(limitsAPI))
		Expect(seen.left).To(HaveLen(map[bool]int{true: 1}[limitsAPI]))
	},
		Entry("do not apply to the registry if it is another host", "https://storage.example.com/blob", false),
		Entry("apply to the registry if it is the same host", "https://registry.example.com/storage/blob", true),
	)

	It("of the token service of another host do not apply to the registry", func(ctx context.Context) {
		seen := newObserver()
		c, err := remote.New(remote.Options{
			URL: "https://registry.example.com", Observer: seen, Timeouts: remote.DefaultTimeouts,
			Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
				switch {
				case req.URL.Path == "/token":
					return response(req, http.StatusTooManyRequests, http.Header{
						"Retry-After": {"60"}, "Ratelimit-Limit": {"5"}, "Ratelimit-Remaining": {"0"},
					}), nil
				case req.URL.Host == "mirror.example.net":
					return response(req, http.StatusUnauthorized, http.Header{
						"Www-Authenticate": {`Bearer realm="https://mirror.example.net/token"`},
					}), nil
				case strings.Contains(req.URL.Path, "/blobs/"):
					return response(req, http.StatusTemporaryRedirect, http.Header{"Location": {"https://mirror.example.net/blob"}}), nil
				}
				return response(req, http.StatusOK, http.Header{}), nil
			}),
		})
		Expect(err).NotTo(HaveOccurred())
		_, err = c.FetchBlob(ctx, "a", digest.FromString("blob"), remote.Position{})
		Expect(err).To(And(HaveField("Reason", remote.RateLimited), HaveField("RetryAfter", time.Minute)))
		_, err = c.Resolve(ctx, "a", "v1")
		Expect(err).NotTo(HaveOccurred())
		Expect(seen.left).To(BeEmpty())
	})

	Context("of one kind of request", func() {
		var (
			now     time.Time
			limited map[string]string // Retry-After by a part of the path
			refused map[string]int    // status by a part of the path
			asked   []string
			c       *remote.Client
		)

		BeforeEach(func() {
			now, limited, refused, asked = time.Now(), map[string]string{}, map[string]int{}, nil
			var err error
			c, err = remote.New(remote.Options{
				URL: "https://registry.example.com", Observer: newObserver(), Now: func() time.Time { return now },
				Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
					asked = append(asked, req.URL.Path)
					for part, wait := range limited {
						if strings.Contains(req.URL.Path, part) {
							return response(req, http.StatusTooManyRequests, http.Header{"Retry-After": {wait}}), nil
						}
					}
					for part, status := range refused {
						if strings.Contains(req.URL.Path, part) {
							return response(req, status, http.Header{}), nil
						}
					}
					return response(req, http.StatusOK, http.Header{"Docker-Content-Digest": {blob.String()}}), nil
				}),
			})
			Expect(err).NotTo(HaveOccurred())
		})
		resolve := func(ctx context.Context, repository string) error {
			_, err := c.Resolve(ctx, repository, "v1")
			return err
		}
		list := func(ctx context.Context, repository string) error {
			_, err := c.List(ctx, repository, "tags/list", nil)
			return err
		}
		retryAfter := func(err error) time.Duration {
			GinkgoHelper()
			var limit *remote.Error
			Expect(errors.As(err, &limit)).To(BeTrue())
			Expect(limit.Reason).To(Equal(remote.RateLimited))
			return limit.RetryAfter
		}

		It("apply to the lists of a repository, and nothing else", func(ctx context.Context) {
			limited["/tags/"] = "86400"
			for range 3 {
				Expect(retryAfter(list(ctx, "a"))).To(Equal(time.Hour))
			}
			Expect(asked).To(HaveLen(1))
			Expect(resolve(ctx, "a")).To(Succeed())
			Expect(resolve(ctx, "b")).To(Succeed())
		})

		It("apply to the manifests of a repository, and for a short time to all other requests", func(ctx context.Context) {
			limited["/a/"] = "86400"
			Expect(retryAfter(resolve(ctx, "a"))).To(Equal(time.Hour))
			Expect(retryAfter(resolve(ctx, "b"))).To(Equal(5 * time.Second))
			Expect(retryAfter(list(ctx, "b"))).To(Equal(5 * time.Second))
			now = now.Add(5 * time.Second)
			Expect(resolve(ctx, "b")).To(Succeed())
			Expect(resolve(ctx, "c")).To(Succeed())
			Expect(retryAfter(resolve(ctx, "a"))).To(Equal(time.Hour - 5*time.Second))
			Expect(asked).To(HaveLen(3))
		})

		It("are probed by one request, which is not a list, after pauses that double", func(ctx context.Context) {
			limited["/manifests/"] = "86400"
			Expect(retryAfter(resolve(ctx, "first"))).To(Equal(time.Hour))
			for i, seconds := range []int{5, 10, 20, 40, 60, 60} {
				pause := time.Duration(seconds) * time.Second
				Expect(retryAfter(resolve(ctx, "other"))).To(Equal(pause))
				now = now.Add(pause)
				asked = nil
				Expect(list(ctx, "other")).To(Succeed())
				Expect(retryAfter(resolve(ctx, fmt.Sprint("probe", i)))).To(Equal(time.Hour))
				Expect(retryAfter(resolve(ctx, "other"))).To(BeNumerically("<=", time.Minute))
				Expect(asked).To(HaveLen(2))
			}
			now = now.Add(time.Minute)
			delete(limited, "/manifests/")
			Expect(resolve(ctx, "other")).To(Succeed())
			Expect(resolve(ctx, "another")).To(Succeed())
		})

		DescribeTable("end for other requests if one of them is refused for another reason", func(ctx context.Context, status int, over bool) {
			limited["/a/"] = "86400"
			Expect(retryAfter(resolve(ctx, "a"))).To(Equal(time.Hour))
			now = now.Add(5 * time.Second)
			refused["/b/"] = status
			Expect(c.FetchManifest(ctx, "b", "v1")).Error().To(HaveOccurred())
			if over {
				Expect(resolve(ctx, "c")).To(Succeed())
			} else {
				Expect(retryAfter(resolve(ctx, "c"))).To(Equal(5 * time.Second))
			}
		},
			Entry("because the object does not exist", http.StatusNotFound, true),
			Entry("because it is forbidden", http.StatusForbidden, true),
			Entry("but not because it requires the credential", http.StatusUnauthorized, false),
			Entry("but not because of a fault", http.StatusServiceUnavailable, false),
		)

		It("are forgotten rather than kept without bound", func(ctx context.Context) {
			limited["/tags/"] = "86400"
			for i := range 3000 {
				Expect(retryAfter(list(ctx, fmt.Sprint("r", i)))).To(Equal(time.Hour))
			}
			Expect(retryAfter(list(ctx, "r2999"))).To(Equal(time.Hour))
			Expect(asked).To(HaveLen(3000))
		})
	})

	It("last as long as the longest Retry-After", func(ctx context.Context) {
		now := time.Now()
		late, release := make(chan struct{}), make(chan struct{})
		c, err := remote.New(remote.Options{
			URL: "https://registry.example.com", Observer: newObserver(), Now: func() time.Time { return now },
			Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
				if strings.Contains(req.URL.Path, "late") {
					close(late)
					<-release
					return response(req, http.StatusTooManyRequests, http.Header{"Retry-After": {"1"}}), nil
				}
				return response(req, http.StatusTooManyRequests, http.Header{"Retry-After": {"60"}}), nil
			}),
		})
		Expect(err).NotTo(HaveOccurred())
		var asking sync.WaitGroup
		asking.Go(func() { _, _ = c.Resolve(ctx, "late", "v1") })
		<-late
		_, err = c.Resolve(ctx, "early", "v1")
		Expect(err).To(HaveField("RetryAfter", time.Minute))
		close(release)
		asking.Wait()
		_, err = c.Resolve(ctx, "early", "v1")
		Expect(err).To(HaveField("RetryAfter", time.Minute))
	})
})
