// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/test/landscape/evidence"
	"github.com/larder-project/larder/test/landscape/parts"
	"github.com/larder-project/larder/test/landscape/supervisor"
	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("Modes of access", Label("access-modes"), func() {
	It("change without a failed pull and without a restart of containerd", func(ctx context.Context) {
		var (
			host   = tenantHost("modes")
			own    = tenant("cache")
			alice  = tenant("alice", "team-a")
			nobody upstreamsim.Account
			// current is the account with which nodes pull. With the zero value, they pull without a pull secret, which
			// only works through a cache with a credential of its own.
			current atomic.Pointer[upstreamsim.Account]
		)
		registry := startTenantRegistry(own, alice)
		change := func(mode v1alpha3.AccessMode) {
			GinkgoHelper()
			By("access for " + string(mode))
			cache := cacheOf("modes", mode)
			cache.SecretReferenceName = cacheOf("modes", v1alpha3.AccessCluster).SecretReferenceName
			// A single replica is down while it restarts, so that pulls that need its credential fail.
			cache.HighAvailability = &v1alpha3.HighAvailability{Enabled: true}
			configureTenants(ctx, own, cache)
		}
		// expectFiles expects exactly these lines of hosts.toml in addition to those of all modes.
		expectFiles := func(lines string) {
			GinkgoHelper()
			Eventually(ctx, func() string { return hostsFile(host) }).Should(Equal(
				"# managed by registry-cache-hosts.service\n" +
					"server = 'https://" + host + "'\n\n" +
					"[host]\n" +
					"[host.'" + cacheStatus(ctx, Default, host).Endpoint + "']\n" +
					"capabilities = ['pull', 'resolve']\n" +
					"ca = ['/etc/containerd/certs.d/ca-bundle.pem']\n" + lines))
		}
		references := []string{registry.push("team-a/app").byTag(host), registry.push("team-a/other").byTag(host)}
		manifest := head("/v2/team-a/app/manifests/" + registry.push("team-a/app").digest)

		// around returns how many pulls of the node have asked the registry itself, which opens the images for alice.
		around := func() (pulls int) {
			for _, request := range registry.requests.Requests(upstreamsim.ManifestHead) {
				if request.Client == here.IP() && request.Status == http.StatusOK {
					pulls++
				}
			}
			return pulls
		}

		current.Store(&nobody)
		change(v1alpha3.AccessCluster)
		before := containerd(ctx)
		load := startNodeImagePullsAs(ctx, func() upstreamsim.Account { return *current.Load() }, references)
		load.awaitPulls(ctx, 5)
		// The node may still have the certificate of an earlier journey; see below.
		Eventually(ctx, func() string { return hostsFile(host) }).Should(ContainSubstring("dial_timeout = '1200ms'\n"))

		// First the nodes get the certificate, then the cache asks for it.
		change(v1alpha3.AccessNodes)
		const client = "client = '/etc/containerd/registry-cache-client.pem'\n"
		expectFiles(client + "dial_timeout = '1200ms'\n")
		Expect(nodeCertificate().Leaf).NotTo(BeNil())
		Eventually(ctx, newCacheClient(ctx, host, nil).status(ctx, manifest, nobody)).Should(Equal(http.StatusUnauthorized))
		expectReady(ctx, host)
		expectFiles(client + "dial_timeout = '1200ms'\n")
		load.awaitPulls(ctx, 5)

		// The certificate stays on the nodes for some minutes, since replicas that restart may still ask for it.
		current.Store(&alice)
		load.awaitPulls(ctx, 2) // One of them began after the change.
		change(v1alpha3.AccessPullSecrets)
		expectFiles(client + "dial_timeout = '200ms'\n")
		onNode := newCacheClient(ctx, host, nil)
		Eventually(ctx, onNode.status(ctx, manifest, nobody)).Should(Equal(http.StatusUnauthorized))
		Eventually(ctx, onNode.status(ctx, manifest, alice)).Should(Equal(http.StatusOK))
		load.awaitPulls(ctx, 2) // One of them began after the change.
		previously := around()
		load.awaitPulls(ctx, 10)
		// On a busy machine, a connection may take longer than 200 ms.
		Expect(around()-previously).To(BeNumerically("<", 5), "nodes use the cache")

		change(v1alpha3.AccessCluster)
		expectFiles(client + "dial_timeout = '1200ms'\n")
		Eventually(ctx, newCacheClient(ctx, host, nil).status(ctx, manifest, nobody)).Should(Equal(http.StatusOK))
		current.Store(&nobody)
		load.awaitPulls(ctx, 5)

		result := load.stop()
		AddReportEntry("access-modes", fmt.Sprintf("3 changes: %d pulls in %s, %d failed, %d around the cache",
			result.pulls, result.duration.Round(time.Second), len(result.failures), around()))
		Expect(result.failures).To(BeEmpty())
		Expect(containerd(ctx)).To(Equal(before))
		Expect(evidence.HostsFile(here, host)).To(BeARegularFile())
	}, SpecTimeout(journeyTimeout))
})

// containerd returns what changes when containerd restarts.
func containerd(ctx context.Context) supervisor.Status {
	GinkgoHelper()
	processes, err := here.Processes(ctx)
	Expect(err).NotTo(HaveOccurred())
	for _, process := range processes {
		if process.Name == parts.Containerd {
			return supervisor.Status{Name: process.Name, PID: process.PID, Since: process.Since, Restarts: process.Restarts}
		}
	}
	Expect(processes).To(ContainElement(HaveField("Name", parts.Containerd)))
	return supervisor.Status{}
}
