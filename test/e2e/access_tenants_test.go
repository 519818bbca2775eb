// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/test/landscape/evidence"
	"github.com/larder-project/larder/test/upstreamsim"
)

const (
	// grantDuration is so short that the journey sees grants end, and so long that a pull takes less.
	grantDuration = 15 * time.Second
	// crowd is the number of pods that start at once.
	crowd = 64
)

var _ = Describe("Tenants", Label("access-tenants"), func() {
	const namespaceA, namespaceB = "tenants-a", "tenants-b"
	var (
		alice   = tenant("alice", "team-a", "shared")
		bob     = tenant("bob", "team-b", "shared")
		carol   = tenant("carol", "team-a")
		dave    = tenant("dave", "team-a")
		mallory = upstreamsim.Account{Username: alice.Username, Password: tenant("alice").Password}
		nobody  upstreamsim.Account
		host    = tenantHost("tenants")
	)

	It("pull what their own secrets open from one stored copy, and nothing else", func(ctx context.Context) {
		registry := startTenantRegistry(alice, bob, carol, dave)
		cache := cacheOf("tenants", v1alpha3.AccessPullSecrets)
		cache.Access.GrantDuration = &metav1.Duration{Duration: grantDuration}
		configureTenants(ctx, alice, cache)
		newNamespace(ctx, namespaceA)
		newNamespace(ctx, namespaceB)
		secrets := map[string]func(*corev1.Pod){}
		for _, account := range []upstreamsim.Account{alice, carol, dave} {
			secrets[account.Username] = newPullSecret(ctx, namespaceA, account.Username, account, host)
		}
		secrets["bob"] = newPullSecret(ctx, namespaceB, "bob", bob, host)
		secrets["wrong"] = newPullSecret(ctx, namespaceB, "wrong", mallory, host)
		a, b, shared, public := registry.push("team-a/app"), registry.push("team-b/app"), registry.push("shared/app"), registry.push(publicRepository+"/app")
		all := []string{a.repository, b.repository, shared.repository, public.repository}
		onNode := newCacheClient(ctx, host, nil)
		caches := addresses(ctx, host)

		By("starting the pods of both tenants, each with its own secret, and of the repository that they share")
		for _, pod := range []*corev1.Pod{
			tenantPod(namespaceA, "a", a.byTag(host), secrets["alice"]), tenantPod(namespaceB, "b", b.byTag(host), secrets["bob"]),
			tenantPod(namespaceA, "a-shared", shared.byTag(host), secrets["alice"]), tenantPod(namespaceB, "b-shared", shared.byTag(host), secrets["bob"]),
			tenantPod(namespaceA, "a-digest", a.byDigest(host), secrets["alice"]),
			tenantPod(namespaceB, "public", public.byTag(host)),
		} {
			forget(ctx, host, all...)
			expectStarts(ctx, pod)
		}
		counters := registry.Counters()
		Expect(counters.MostRequested()).To(Equal(1), "%v", counters.Objects)
		Expect(counters.Bytes).To(Equal(a.size+b.size+shared.size+public.size), "each image is fetched once")
		for _, image := range []tenantImage{a, b, shared, public} {
			for _, request := range registry.served(image.repository) {
				Expect(request.Client).To(BeElementOf(caches), "%v", request)
			}
		}

		By("refusing pods with another tenant's secret, with a wrong one, and without one")
		Expect(hasImage(ctx, public.byTag(host))).To(BeTrue())
		forget(ctx, host, all...)
		registry.requests.Reset()
		registry.ResetCounters()
		hits := counts(ctx, host).Hits
		expectRefused(ctx,
			tenantPod(namespaceB, "other", a.byTag(host), secrets["bob"]), tenantPod(namespaceB, "other-digest", a.byDigest(host), secrets["bob"]),
			tenantPod(namespaceB, "wrong", a.byTag(host), secrets["wrong"]), tenantPod(namespaceB, "wrong-digest", a.byDigest(host), secrets["wrong"]),
			tenantPod(namespaceB, "none", a.byTag(host)), tenantPod(namespaceB, "none-digest", a.byDigest(host)),
		)
		Expect(counts(ctx, host).Hits).To(Equal(hits), "the cache has served nothing")
		Expect(registry.served(a.repository)).To(BeEmpty(), "neither has the registry")
		Expect(hasImage(ctx, a.byTag(host))).To(BeFalse())

		By("refusing clients that know all names")
		onNode.expectContent(ctx, a, alice)
		onNode.expectNoContent(ctx, a, nobody, http.StatusUnauthorized)
		onNode.expectNoContent(ctx, a, bob, http.StatusForbidden)
		onNode.expectNoContent(ctx, a, mallory, http.StatusForbidden)

		By("revoking a secret")
		onNode.expectContent(ctx, a, carol)
		registry.permit(alice, bob, dave)
		revoked := time.Now()
		Eventually(ctx, onNode.status(ctx, head("/v2/"+a.repository+"/manifests/"+a.digest), carol)).
			WithTimeout(2 * grantDuration).Should(Equal(http.StatusForbidden))
		AddReportEntry("access-tenants", fmt.Sprintf("a revoked secret was refused after %s, with grants of %s",
			time.Since(revoked).Round(time.Second), grantDuration))
		onNode.expectNoContent(ctx, a, carol, http.StatusForbidden)
		expectRefused(ctx, tenantPod(namespaceA, "revoked", a.byTag(host), secrets["carol"]), tenantPod(namespaceA, "revoked-digest", a.byDigest(host), secrets["carol"]))

		By("stopping the registry")
		forget(ctx, host, all...)
		registry.Refuse()
		// What the cache has decided before must have ended, which nothing shows while the registry is down: the grants, and
		// that the image is not public.
		time.Sleep(time.Minute)
		expectStarts(ctx, tenantPod(namespaceA, "a", a.byTag(host), secrets["alice"]))
		expectStarts(ctx, tenantPod(namespaceB, "public", public.byTag(host)))
		forget(ctx, host, all...)
		expectRefused(ctx, tenantPod(namespaceA, "newcomer", a.byTag(host), secrets["dave"]), tenantPod(namespaceB, "other", a.byDigest(host), secrets["bob"]))
		onNode.expectNoContent(ctx, a, nobody, http.StatusUnauthorized)
		for _, account := range []upstreamsim.Account{bob, carol, dave} {
			onNode.expectNoContent(ctx, a, account, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable)
		}

		By("searching for what the cache has got to know")
		searched, found := searchTraces(ctx, canariesOf(alice, bob, carol, dave, mallory))
		AddReportEntry("access-tenants", "searched "+searched)
		Expect(found).To(BeEmpty())

		By("starting the registry again, and restarting the cache")
		Expect(registry.Accept()).To(Succeed())
		restartCache(ctx, host)
		expectStarts(ctx, tenantPod(namespaceA, "a", a.byTag(host), secrets["alice"]))
		Expect(registry.Counters().Bytes).To(BeZero(), "nothing is fetched again")

		By("restarting the cache while the registry is down: permissions are only in memory")
		forget(ctx, host, all...)
		registry.Refuse()
		restartCache(ctx, host)
		expectRefused(ctx, tenantPod(namespaceA, "a", a.byTag(host), secrets["alice"]))
		onNode.expectNoContent(ctx, a, alice, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable)
		Expect(registry.Accept()).To(Succeed())
		expectStarts(ctx, tenantPod(namespaceA, "a", a.byTag(host), secrets["alice"]))
		Expect(registry.Counters().Bytes).To(BeZero(), "nothing is fetched again")
	}, SpecTimeout(journeyTimeout))

	It("start many pods at once with one fetch and one check of the secret", func(ctx context.Context) {
		registry := startTenantRegistry(alice)
		configureTenants(ctx, alice, cacheOf("tenants", v1alpha3.AccessPullSecrets))
		newNamespace(ctx, namespaceA)
		secret := newPullSecret(ctx, namespaceA, "alice", alice, host)
		image := registry.push("team-a/crowd")

		// By digest: each pull by tag also asks the registry which image it means.
		begun := time.Now()
		var running sync.WaitGroup
		errs := make(chan error, crowd)
		pods := make([]*corev1.Pod, crowd)
		for i := range pods {
			pods[i] = tenantPod(namespaceA, fmt.Sprintf("crowd-%d", i), image.byDigest(host), secret)
			running.Go(func() { errs <- evidence.Run(ctx, c, pods[i]) })
		}
		running.Wait()
		took := time.Since(begun)
		for range pods {
			Expect(<-errs).NotTo(HaveOccurred())
		}
		counters, tokens, checks, around := registry.Counters(), 0, 0, 0
		fetched := map[string]int{}
		for _, request := range registry.requests.Requests() {
			get := request.Method == http.MethodGet && request.Status == http.StatusOK && strings.HasPrefix(request.Path, "/v2/")
			switch {
			case request.Client == here.IP():
				// A node that is busy with so many pods may not get a connection to the cache in time, and brings the same secret
				// to the registry.
				around++
				Expect(get).To(BeFalse(), "%v", request)
			case get && request.Kind != upstreamsim.Ping:
				fetched[request.Path]++
			case request.User != alice.Username:
			case request.Kind == upstreamsim.Token:
				tokens++
			case request.Kind == upstreamsim.ManifestHead:
				checks++
			}
		}
		AddReportEntry("access-tenants", fmt.Sprintf("%d pods in %s: %d of %d bytes fetched; with the tenant's secret %d requests for a token and %d for permission; %d requests around the cache",
			crowd, took.Round(time.Second), counters.Bytes, image.size, tokens, checks, around))
		Expect(fetched).To(HaveLen(3), "a manifest, a configuration and a layer")
		Expect(fetched).To(HaveEach(1))
		Expect(counters.Bytes).To(Equal(image.size))
		Expect(tokens).To(Equal(1))
		Expect(checks).To(Equal(1))
		for _, pod := range pods {
			Expect(c.Delete(ctx, pod)).To(Succeed())
		}
		for _, pod := range pods {
			Expect(evidence.Delete(ctx, c, pod)).To(Succeed())
		}
	}, SpecTimeout(journeyTimeout))
})

// hasImage reports whether the node has an image of the repository of a reference by tag.
func hasImage(ctx context.Context, reference string) bool {
	GinkgoHelper()
	images, err := evidence.NodeImages(ctx, here)
	Expect(err).NotTo(HaveOccurred())
	has, err := images.Has(ctx, reference[:strings.LastIndex(reference, ":")])
	Expect(err).NotTo(HaveOccurred())
	return has
}
