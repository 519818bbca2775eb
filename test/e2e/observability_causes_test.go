// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/garden"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/upstreamsim"
)

// cause is what makes alerts fire for one cache.
type cause struct {
	host   string
	what   string
	alerts []string
	// start and stop make and end it.
	start, stop func(ctx context.Context)
	// load, if set, sends requests every second until the end of the test. It learns whether the cause lasts.
	load func(ctx context.Context, active bool)

	began, ended time.Time
	active       atomic.Bool
}

type causes []*cause

// newCauses returns the causes of all alerts, in the order in which they are made.
func newCauses(caches observedCaches) causes {
	return causes{
		wrongCredential(caches), stoppedUpstream(caches), nearLimit(caches), tooManyRequests(caches), failedFetches(caches),
		coldCache(caches), fullVolume(caches), expiringCredential(caches), expiringCertificate(), missingReplica(),
	}
}

func (c causes) alerts() []string {
	var names []string
	for _, cause := range c {
		names = append(names, cause.alerts...)
	}
	return names
}

// expected returns the alerts of all causes with their caches.
func (c causes) expected() []string {
	var alerts []string
	for _, cause := range c {
		for _, name := range cause.alerts {
			alerts = append(alerts, name+" "+cause.host)
		}
	}
	return alerts
}

// begin makes all causes.
func (c causes) begin(ctx context.Context) {
	GinkgoHelper()
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	DeferCleanup(func() { cancel(); running.Wait() })
	for _, cause := range c {
		cause.start(ctx)
		cause.began = time.Now()
		cause.active.Store(true)
		if cause.load != nil {
			running.Go(func() { cause.run(ctx) })
		}
	}
}

// run keeps requests coming.
func (c *cause) run(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.load(ctx, c.active.Load())
		}
	}
}

// end ends all causes, the last one first.
func (c causes) end(ctx context.Context) {
	GinkgoHelper()
	for _, cause := range slices.Backward(c) {
		cause.stop(ctx)
		cause.ended = time.Now()
		cause.active.Store(false)
	}
}

func wrongCredential(observedCaches) *cause {
	return &cause{
		host:   rejectedHost,
		what:   "rotation to a wrong password",
		alerts: []string{"RegistryCacheCredentialRejected", "RegistryCacheCredentialRotationStuck"},
		start:  func(ctx context.Context) { referObserved(ctx, observedReference, "observed-v2") },
		stop:   func(ctx context.Context) { referObserved(ctx, observedReference, "observed-v3") },
	}
}

// referObserved changes the Secret that an entry of the Shoot's resources references.
func referObserved(ctx context.Context, entry, secret string) {
	GinkgoHelper()
	shoot := getShoot(ctx)
	patch := client.MergeFrom(shoot.DeepCopy())
	for i := range shoot.Spec.Resources {
		if shoot.Spec.Resources[i].Name == entry {
			shoot.Spec.Resources[i].ResourceRef.Name = secret
		}
	}
	Expect(c.Patch(ctx, shoot, patch)).To(Succeed())
	Expect(garden.WaitForShoot(ctx, c, shootKey)).To(Succeed())
}

func stoppedUpstream(caches observedCaches) *cause {
	cache := caches[unreachableHost]
	return &cause{
		host:   cache.host,
		what:   "the upstream refuses connections",
		alerts: []string{"RegistryCacheUpstreamUnreachable"},
		start:  func(context.Context) { cache.upstream.Refuse() },
		stop:   func(context.Context) { Expect(cache.upstream.Accept()).To(Succeed()) },
		load: func(ctx context.Context, _ bool) {
			_, _, _ = cache.get(ctx, "manifests/1") // Served unvalidated.
			cache.getNew(ctx)
		},
	}
}

func nearLimit(caches observedCaches) *cause {
	cache := caches[limitedHost]
	report := func(remaining int) {
		cache.upstream.Wrap(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("RateLimit-Limit", "100;w=21600")
				w.Header().Set("RateLimit-Remaining", fmt.Sprintf("%d;w=21600", remaining))
				next.ServeHTTP(w, r)
			})
		})
	}
	return &cause{
		host:   cache.host,
		what:   "the upstream reports 3 of 100 requests left",
		alerts: []string{"RegistryCacheRateLimitNearlyExhausted"},
		start:  func(context.Context) { report(3) },
		stop:   func(context.Context) { report(90) },
		load:   func(ctx context.Context, _ bool) { cache.getNew(ctx) },
	}
}

func tooManyRequests(caches observedCaches) *cause {
	faults := upstreamsim.Faults{Status: http.StatusTooManyRequests, Headers: map[string]string{"Retry-After": "1"}, Only: []upstreamsim.Kind{upstreamsim.BlobGet}}
	return faultyUpstream(caches[throttledHost], "RegistryCacheRateLimitExceeded", "the upstream responds with 429", faults)
}

func failedFetches(caches observedCaches) *cause {
	return faultyUpstream(caches[failingHost], "RegistryCacheFetchesFailing", "the upstream responds with 500",
		upstreamsim.Faults{Status: http.StatusInternalServerError, Only: []upstreamsim.Kind{upstreamsim.BlobGet}})
}

func faultyUpstream(cache *observedCache, alert, what string, faults upstreamsim.Faults) *cause {
	return &cause{
		host: cache.host, what: what, alerts: []string{alert},
		start: func(context.Context) { cache.upstream.Misbehave(faults) },
		stop:  func(context.Context) { cache.upstream.Misbehave(upstreamsim.Faults{}) },
		load:  func(ctx context.Context, _ bool) { cache.getNew(ctx) },
	}
}

func coldCache(caches observedCaches) *cause {
	cache := caches[coldHost]
	return &cause{
		host:   cache.host,
		what:   "after many hits, only misses",
		alerts: []string{"RegistryCacheHitRatioCollapsed"},
		start:  func(context.Context) {},
		stop:   func(context.Context) {},
		load: func(ctx context.Context, active bool) {
			if active {
				for range 5 {
					cache.getNew(ctx)
				}
			}
		},
	}
}

// fullVolume leaves less than 2 % of a volume, and slowly uses that up. A blob that the cache can make room for evicts
// others; one that is too large is passed on without being stored.
func fullVolume(caches observedCaches) *cause {
	cache := caches[fullHost]
	var filler, large string
	const step = 8 << 10
	return &cause{
		host:   cache.host,
		what:   "a file fills the volume",
		alerts: []string{"RegistryCacheBypassesVolume", "RegistryCachePersistentVolumeUsageCritical", "RegistryCachePersistentVolumeFullInFourDays"},
		start: func(ctx context.Context) {
			pid, err := here.FirstProcess()
			Expect(err).NotTo(HaveOccurred())
			filler = filepath.Join(fmt.Sprintf("/proc/%d/root", pid), volumePath(ctx, fullHost), "filler")
			Expect(os.WriteFile(filler, make([]byte, smallVolume/1000*978), 0o600)).To(Succeed())
			_, status, err := cache.get(ctx, cache.newBlob(2<<20))
			Expect(err).NotTo(HaveOccurred())
			Expect(status).To(Equal(http.StatusOK))
			large = cache.newBlob(8 << 20)
		},
		stop: func(context.Context) { Expect(os.Remove(filler)).To(Succeed()) },
		load: func(ctx context.Context, active bool) {
			if active {
				if file, err := os.OpenFile(filler, os.O_WRONLY|os.O_APPEND, 0); err == nil {
					_, _ = file.Write(make([]byte, step)) // In the end, there is no space.
					_ = file.Close()
				}
			}
			_, _, _ = cache.get(ctx, large)
		},
	}
}

// expiringCertificate replaces a certificate by one that should have been renewed. gardener-resource-manager, which
// would restore it, ignores it meanwhile.
func expiringCertificate() *cause {
	const lifetime = 2 * 24 * time.Hour
	return &cause{
		host:   certificateHost,
		what:   "a certificate for two days",
		alerts: []string{"RegistryCacheCertificateExpiresSoon"},
		start: func(ctx context.Context) {
			authority, err := pki.NewAuthority(certificateHost)
			Expect(err).NotTo(HaveOccurred())
			pair, err := authority.Issue(pki.Request{CommonName: certificateHost, Hosts: []string{certificateHost}, Lifetime: lifetime})
			Expect(err).NotTo(HaveOccurred())
			ignoreManagedResource(ctx, managedResourceKey, true)
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: cacheKey(certificateHost).Name + "-tls"}}
			Expect(c.Get(ctx, client.ObjectKeyFromObject(secret), secret)).To(Succeed())
			patch := client.MergeFrom(secret.DeepCopy())
			secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey] = pair.Certificate, pair.Key
			Expect(c.Patch(ctx, secret, patch)).To(Succeed())
		},
		stop: func(ctx context.Context) { ignoreManagedResource(ctx, managedResourceKey, false) },
	}
}

// missingReplica deletes a replica that no node can run again.
func missingReplica() *cause {
	return &cause{
		host:   replicatedHost,
		what:   "a replica that cannot be scheduled",
		alerts: []string{"RegistryCacheReplicaMissing"},
		start: func(ctx context.Context) {
			cordon(ctx, true)
			key := cacheKey(replicatedHost)
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name + "-1"}}
			Expect(c.Delete(ctx, pod)).To(Succeed())
		},
		stop: func(ctx context.Context) { cordon(ctx, false) },
	}
}

// restore ends what keeps the cluster from being configured, even after a failure.
func restore(ctx context.Context) {
	GinkgoHelper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	ignoreManagedResource(ctx, managedResourceKey, false)
	cordon(ctx, false)
}

// newBlob adds a blob to the upstream that the cache does not have, and returns its path.
func (o *observedCache) newBlob(size int) string {
	_, image := o.newImage(size)
	return "blobs/" + image.Layers()[0].Descriptor().Digest.String()
}

// getNew gets a blob that the cache does not have. It may fail.
func (o *observedCache) getNew(ctx context.Context) { _, _, _ = o.get(ctx, o.newBlob(1<<10)) }

// cordon makes the node accept no new pods, or accept them again.
func cordon(ctx context.Context, cordoned bool) {
	GinkgoHelper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: landscape.NodeName}}
	Expect(c.Get(ctx, client.ObjectKeyFromObject(node), node)).To(Succeed())
	patch := client.MergeFrom(node.DeepCopy())
	node.Spec.Unschedulable = cordoned
	Expect(c.Patch(ctx, node, patch)).To(Succeed())
}
