// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

// watched is a client whose upstream runs in memory, so that it can be in a bubble.
type watched struct {
	*remote.Client
	seen *observer

	mu     sync.Mutex // Time that passes in a bubble does not order memory accesses.
	down   bool
	faulty string // part of the paths that the upstream's gateway does not find a backend for
	header http.Header
	asked  []string
}

func watch(t *testing.T, test func(g Gomega, w *watched)) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		w := &watched{seen: newObserver(), header: http.Header{}}
		var err error
		w.Client, err = remote.New(remote.Options{
			URL: "https://registry.example.com", Observer: w.seen,
			Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.asked = append(w.asked, req.Method+" "+req.URL.Path)
				if w.down {
					return nil, errors.New("connection refused")
				}
				if w.faulty != "" && strings.Contains(req.URL.Path, w.faulty) {
					return response(req, http.StatusBadGateway, w.header), nil
				}
				return response(req, http.StatusOK, w.header), nil
			}),
		})
		g.Expect(err).NotTo(HaveOccurred())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			w.Run(ctx)
			close(ended)
		}()
		test(g, w)
		cancel()
		<-ended
	})
}

// change applies a change to the upstream.
func (w *watched) change(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *watched) resolve() { _, _ = w.Resolve(context.Background(), "library/app", "v1") }

func TestAnUpstreamRecoversWithoutRequestsOfClients(t *testing.T) {
	watch(t, func(g Gomega, w *watched) {
		g.Expect(w.Health()).To(Equal(remote.Health{Up: true}))
		w.change(func() { w.down = true })
		w.resolve()
		w.resolve()
		went := time.Now()
		g.Expect(w.Health()).To(Equal(remote.Health{Since: went, Cause: "request failed: connection refused"}))
		w.change(func() { w.asked = nil })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		g.Expect(len(w.asked)).To(And(BeNumerically(">=", 10), BeNumerically("<=", 20)), "it is asked rarely")
		g.Expect(w.asked).To(HaveEach("HEAD /v2/library/app/manifests/v1"))
		g.Expect(w.Health().Since).To(Equal(went))
		w.change(func() { w.down = false })
		time.Sleep(time.Minute)
		synctest.Wait()
		g.Expect(w.Health()).To(And(HaveField("Up", true), HaveField("Cause", "")))
		g.Expect(w.Health().Since).To(BeTemporally(">", went))
		g.Expect(w.seen.up).To(Equal([]bool{false, true}))
		w.change(func() { w.asked = nil })
		time.Sleep(time.Hour)
		synctest.Wait()
		g.Expect(w.asked).To(BeEmpty(), "it is up")
	})
}

func TestTheLatestPullIsRepeatedToSeeWhetherTheUpstreamHasRecovered(t *testing.T) {
	watch(t, func(g Gomega, w *watched) {
		w.resolve()
		w.change(func() { w.down = true })
		for range 2 {
			_, _ = w.Resolve(context.Background(), "library/other", "v1")
		}
		w.change(func() { w.asked = nil })
		time.Sleep(time.Minute)
		synctest.Wait()
		g.Expect(w.asked).To(And(Not(BeEmpty()), HaveEach("HEAD /v2/library/app/manifests/v1")))
	})
}

func TestAnUpstreamStaysDownWhileBlobsOrManifestsFail(t *testing.T) {
	content := digest.FromString("content")
	calls := map[string]func(w *watched, repository string){
		"/blobs/": func(w *watched, repository string) {
			if blob, err := w.FetchBlob(context.Background(), repository, content, remote.Position{}); err == nil {
				_ = blob.Body.Close()
			}
		},
		"/manifests/sha256:": func(w *watched, repository string) {
			_, _ = w.FetchManifest(context.Background(), repository, content.String())
		},
	}
	for faulty, fetch := range calls {
		watch(t, func(g Gomega, w *watched) {
			fetch(w, "library/app")
			w.change(func() { w.faulty = faulty })
			fetch(w, "library/app")
			fetch(w, "library/other")
			g.Expect(w.Health().Up).To(BeFalse())
			for range 20 {
				w.resolve()
				g.Expect(w.Healthy()).To(BeTrue(), "tags are validated as long as that works")
				time.Sleep(30 * time.Second)
			}
			synctest.Wait()
			g.Expect(w.seen.up).To(Equal([]bool{false}), faulty)
			w.change(func() { w.faulty, w.asked = "", nil })
			time.Sleep(time.Minute)
			synctest.Wait()
			g.Expect(w.seen.up).To(Equal([]bool{false, true}))
			g.Expect(w.asked).To(ConsistOf(HavePrefix("GET /v2/library/app" + faulty)))
		})
	}
}

func TestListsThatFailDoNotKeepAnUpstreamDown(t *testing.T) {
	watch(t, func(g Gomega, w *watched) {
		w.change(func() { w.faulty = "/tags/list" })
		for _, repository := range []string{"library/app", "library/other"} {
			_, _ = w.List(context.Background(), repository, "tags/list", nil)
		}
		g.Expect(w.Health().Up).To(BeFalse())
		w.resolve()
		g.Expect(w.Health().Up).To(BeTrue())
	})
}

func TestAReportedRateLimitCountsForItsWindow(t *testing.T) {
	for _, test := range []struct {
		limit  string
		window time.Duration
	}{
		{"100;w=3600", time.Hour},
		{"100", 6 * time.Hour},
		{"100;w=x", 6 * time.Hour},
		{"100;w=-1", 6 * time.Hour},
		{"100;w=99999999999999999999", 6 * time.Hour},
		{"100; w=2000000000", 24 * time.Hour},
	} {
		watch(t, func(g Gomega, w *watched) {
			_, ok := w.RateLimit()
			g.Expect(ok).To(BeFalse())
			w.change(func() {
				w.header.Set("RateLimit-Limit", test.limit)
				w.header.Set("RateLimit-Remaining", "3;w=3600")
			})
			w.resolve()
			time.Sleep(test.window)
			budget, ok := w.RateLimit()
			g.Expect(ok).To(BeTrue(), test.limit)
			g.Expect(budget.Limit).To(BeEquivalentTo(100))
			g.Expect(budget.Remaining).To(BeEquivalentTo(3))
			time.Sleep(time.Minute)
			synctest.Wait()
			_, ok = w.RateLimit()
			g.Expect(ok).To(BeFalse(), test.limit)
			g.Expect(w.seen.left).To(BeEmpty())
		})
	}
}
