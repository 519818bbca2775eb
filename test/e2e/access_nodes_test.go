// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	secretsmanager "github.com/gardener/gardener/pkg/utils/secrets/manager"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/test/landscape/evidence"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("Caches for nodes", Label("access-nodes"), func() {
	var (
		host = tenantHost("nodes")
		own  = tenant("cache")
	)
	none := func() upstreamsim.Account { return upstreamsim.Account{} }

	It("serve the container runtime, and refuse pods on every path", func(ctx context.Context) {
		registry := startTenantRegistry(own)
		configureTenants(ctx, own, cacheOf("nodes", v1alpha3.AccessNodes))
		image := registry.push("team-a/app")
		pod := tenantPod("default", podName, image.byTag(host))
		DeferCleanup(evidence.Delete, c, pod)
		Expect(evidence.Run(ctx, c, pod)).To(Succeed())
		for _, request := range registry.served(image.repository) {
			Expect(request.Client).To(BeElementOf(addresses(ctx, host)), "%v", request)
		}
		Expect(registry.Counters().Bytes).To(Equal(image.size))

		By("asking from the pod")
		Expect(pod.Spec.HostNetwork).To(BeFalse())
		dial, err := evidence.PodDialer(ctx, here, pod)
		Expect(err).NotTo(HaveOccurred())
		authority, err := pki.NewAuthority("stranger")
		Expect(err).NotTo(HaveOccurred())
		pair, err := authority.Issue(pki.Request{CommonName: "registry-cache-node", Organizations: []string{"system:nodes"}})
		Expect(err).NotTo(HaveOccurred())
		stranger, err := pair.TLS()
		Expect(err).NotTo(HaveOccurred())
		paths := []string{"/v2/", "/v2", "/v2/_catalog", "/v2/other/manifests/latest", "/v2/other/blobs/uploads/", "/metrics", "/debug/", config.StatusPath, "/debug/pprof/", "//", "/x"}
		for _, from := range []cacheClient{newCacheClient(ctx, host, dial), newCacheClient(ctx, host, dial, stranger)} {
			from.expectNoContent(ctx, image, upstreamsim.Account{}, http.StatusUnauthorized)
			// The credential of the cache itself opens nothing.
			from.expectNoContent(ctx, image, own, http.StatusUnauthorized, http.StatusForbidden)
			for _, path := range paths {
				for _, request := range []cacheRequest{get(path), head(path)} {
					Expect(from.status(ctx, request, upstreamsim.Account{})()).To(Equal(http.StatusUnauthorized), request.String())
				}
			}
			Expect(from.status(ctx, get("/"), upstreamsim.Account{})()).To(Equal(http.StatusOK), "the kubelet's probe")
		}
		newCacheClient(ctx, host, nil, nodeCertificate()).expectContent(ctx, image, upstreamsim.Account{})

		By("asking the debug port")
		debug := newCacheClient(ctx, host, dial)
		debug.endpoint = "http://" + net.JoinHostPort(addresses(ctx, host)[0], strconv.Itoa(config.DebugPort))
		for _, path := range []string{"/metrics", "/debug/health"} {
			r, err := debug.send(ctx, get(path), upstreamsim.Account{})
			Expect(err).NotTo(HaveOccurred())
			Expect(r.status).To(Equal(http.StatusOK), path)
			Expect(r.body).NotTo(ContainSubstring("team-a"), path)
		}
		for _, path := range []string{"/", "/debug", "/debug/", config.StatusPath, config.CredentialsPath, "/debug/pprof/", "/debug/vars", "/v2/", "/v2/_catalog"} {
			r, err := debug.send(ctx, get(path), upstreamsim.Account{})
			Expect(err).NotTo(HaveOccurred())
			Expect(r.status).To(Equal(http.StatusUnauthorized), path)
			Expect(len(r.body)).To(BeNumerically("<", 100), path)
		}
	}, SpecTimeout(journeyTimeout))

	It("lose no pull while the certificates of nodes are renewed", func(ctx context.Context) {
		registry := startTenantRegistry(own)
		configureTenants(ctx, own, cacheOf("nodes", v1alpha3.AccessNodes))
		caches := addresses(ctx, host)
		references := []string{registry.push("team-a/app").byTag(host), registry.push("team-b/app").byTag(host)}
		load := startNodeImagePullsAs(ctx, none, references[:1], references[1:])
		load.awaitPulls(ctx, 5)

		for range 2 {
			before := nodeCertificate()
			expireNodeCertificate(ctx)
			reconcileShoot(ctx)
			after := nodeCertificate()
			Expect(after.Leaf.SerialNumber).NotTo(Equal(before.Leaf.SerialNumber))
			load.awaitPulls(ctx, 5)
			// Nodes that have not been updated yet still use the old one.
			image := registry.push("team-a/later")
			newCacheClient(ctx, host, nil, before).expectContent(ctx, image, upstreamsim.Account{})
			newCacheClient(ctx, host, nil, after).expectContent(ctx, image, upstreamsim.Account{})
		}

		result := load.stop()
		AddReportEntry("access-nodes", fmt.Sprintf("2 renewals: %d pulls in %s, %d failed", result.pulls, result.duration.Round(time.Second), len(result.failures)))
		Expect(result.failures).To(BeEmpty())
		for _, request := range registry.requests.Requests() {
			Expect(request.Client).To(BeElementOf(caches), "no pull goes around the cache: %v", request)
		}
		Expect(addresses(ctx, host)).To(Equal(caches))
	}, SpecTimeout(journeyTimeout))
})

// nodeCertificate returns the client certificate on the node, which only root can read.
func nodeCertificate() tls.Certificate {
	GinkgoHelper()
	path := filepath.Join(here.NodeRoot(), "etc", "containerd", "registry-cache-client.pem")
	info, err := os.Stat(path)
	Expect(err).NotTo(HaveOccurred())
	Expect(info.Mode().Perm()).To(Equal(os.FileMode(0o600)))
	content, err := os.ReadFile(path)
	Expect(err).NotTo(HaveOccurred())
	certificate, err := tls.X509KeyPair(content, content)
	Expect(err).NotTo(HaveOccurred())
	return certificate
}

// expireNodeCertificate lets the secrets manager believe that the certificate of the nodes is close to its end, as it
// is after months: it looks at labels.
func expireNodeCertificate(ctx context.Context) {
	GinkgoHelper()
	list := &corev1.SecretList{}
	Expect(c.List(ctx, list, client.InNamespace(seedNamespace), client.MatchingLabels{
		secretsmanager.LabelKeyName: "registry-cache-node", secretsmanager.LabelKeyManagerIdentity: "extension-registry-cache",
	})).To(Succeed())
	Expect(list.Items).NotTo(BeEmpty())
	for i := range list.Items {
		secret := &list.Items[i]
		patch := client.MergeFrom(secret.DeepCopy())
		secret.Labels[secretsmanager.LabelKeyIssuedAtTime] = strconv.FormatInt(time.Now().Add(-89*24*time.Hour).Unix(), 10)
		secret.Labels[secretsmanager.LabelKeyValidUntilTime] = strconv.FormatInt(time.Now().Add(24*time.Hour).Unix(), 10)
		Expect(c.Patch(ctx, secret, patch)).To(Succeed())
	}
}
