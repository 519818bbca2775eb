// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/test/landscape/evidence"
	"github.com/larder-project/larder/test/landscape/garden"
)

const (
	// detectionTimeout bounds the time until a node no longer uses a cache that does not respond.
	detectionTimeout = 10 * time.Second
	// maxLoss bounds the time that a pull loses with such a cache.
	maxLoss = 2 * time.Second
)

// nodeFault is a fault of a cache that a node sees.
type nodeFault struct {
	begin func(context.Context) (restore func(context.Context))
	// reconcile is whether the Shoot can be reconciled meanwhile.
	reconcile bool
}

var _ = Describe("Nodes", func() {
	DescribeTable("lose at most two seconds of a pull if a cache accepts no connections, and use it again by themselves", Label("fail-fast"),
		Serial, // it compares times
		func(ctx context.Context, fault nodeFault) {
			// Pods bring their secrets, so that nodes can pull without the cache. They are more patient with a cache whose
			// credential they need.
			cache := v1alpha3.RegistryCache{Upstream: garden.PrivateHost, Access: &v1alpha3.Access{Mode: v1alpha3.AccessPullSecrets}}
			configure(ctx, cache)
			secret := pullSecret(ctx, garden.PrivateHost)
			image := newImage(ctx, garden.PrivateHost)
			hosts := evidence.HostsFile(here, garden.PrivateHost)
			load := startNodeImagePulls(ctx, pushImages(ctx, garden.PrivateHost, 3))
			load.awaitPulls(ctx, 3)
			load.takeLongest() // of those that the cache has fetched
			load.awaitPulls(ctx, 10)
			usual := load.takeLongest()

			restore := fault.begin(ctx)
			failed := time.Now()
			directory := filepath.Dir(hosts)
			Eventually(ctx, directory, detectionTimeout).ShouldNot(BeADirectory(), "it would hide the hosts for all upstreams")
			detected := time.Since(failed)
			load.awaitPulls(ctx, 5)
			longest := load.takeLongest()

			if fault.reconcile {
				By("changing the node without the cache")
				reconcileShoot(ctx)
				Expect(hosts).NotTo(BeAnExistingFile())
				load.awaitPulls(ctx, 5)
				longest = max(longest, load.takeLongest())
			}
			result := load.stop()
			AddReportEntry("fail-fast", fmt.Sprintf("%d pulls, %d failed; the longest took %s instead of %s; the node did not use the cache after %s",
				result.pulls, len(result.failures), longest.Round(10*time.Millisecond), usual.Round(10*time.Millisecond), detected.Round(10*time.Millisecond)))
			Expect(result.failures).To(BeEmpty())
			Expect(longest).To(BeNumerically("<=", usual+maxLoss))

			By("restoring the cache")
			restore(ctx)
			expectReady(ctx, garden.PrivateHost)
			before := counts(ctx, garden.PrivateHost)
			pull(ctx, image, secret)
			Eventually(ctx, func() int { d := counts(ctx, garden.PrivateHost).Minus(before); return d.Hits + d.Misses }).Should(BeNumerically(">", 0))
		},
		Entry("whose pod is gone", SpecTimeout(journeyTimeout), nodeFault{reconcile: true, begin: func(ctx context.Context) func(context.Context) {
			stopCache(ctx, garden.PrivateHost)
			return func(ctx context.Context) { ignoreManagedResource(ctx, managedResourceKey, false) }
		}}),
		Entry("whose Service is gone", SpecTimeout(journeyTimeout), nodeFault{begin: func(ctx context.Context) func(context.Context) {
			ignoreManagedResource(ctx, servicesKey, true)
			service := &corev1.Service{}
			Expect(c.Get(ctx, cacheKey(garden.PrivateHost), service)).To(Succeed())
			Expect(c.Delete(ctx, service)).To(Succeed())
			restore := func(ctx context.Context) {
				// With the same cluster IP: another one is a change of the node, not a return of the cache.
				again := service.DeepCopy()
				again.UID, again.ResourceVersion = "", ""
				err := c.Create(ctx, again)
				if err == nil {
					ignoreManagedResource(ctx, servicesKey, false)
				}
				Expect(err).NotTo(HaveOccurred())
			}
			DeferCleanup(func(ctx context.Context) {
				if c.Get(ctx, cacheKey(garden.PrivateHost), &corev1.Service{}) != nil {
					restore(ctx)
				}
			})
			return restore
		}}),
		Entry("whose packets are dropped", SpecTimeout(journeyTimeout), nodeFault{reconcile: true, begin: func(ctx context.Context) func(context.Context) {
			port := fmt.Sprint(config.Port)
			return dropPackets(ctx, "--destination", addresses(ctx, garden.PrivateHost)[0], "--protocol", "tcp", "--destination-port", port, "--syn")
		}}),
	)
})

// dropPackets makes the node drop the packets that it sends and that match, until the end of the journey or the call of
// restore.
func dropPackets(ctx context.Context, match ...string) (restore func(context.Context)) {
	GinkgoHelper()
	change := func(ctx context.Context, operation string) error {
		// After the translation of cluster IPs, in the only network of the landscape.
		args := append([]string{"--wait", operation, "OUTPUT"}, append(match, "--jump", "DROP")...)
		if output, err := here.Command(ctx, "iptables", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("iptables %s: %w: %s", strings.Join(args, " "), err, output)
		}
		return nil
	}
	Expect(change(ctx, "--insert")).To(Succeed())
	dropped := true
	restore = func(ctx context.Context) {
		GinkgoHelper()
		if dropped {
			Expect(change(ctx, "--delete")).To(Succeed())
			dropped = false
		}
	}
	DeferCleanup(restore)
	return restore
}
