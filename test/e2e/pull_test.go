// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"encoding/json"
	"net/http"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/test/landscape/garden"
)

var _ = Describe("Pulling", func() {
	// pullsThroughCache pulls a private image by a pod without credentials and checks every step on the way.
	pullsThroughCache := func(ctx context.Context, host string) {
		GinkgoHelper()
		robot, _, err := here.Puller()
		Expect(err).NotTo(HaveOccurred())
		image := newImage(ctx, host)
		log, before := accessLog(), counts(ctx, host)

		pull(ctx, image)
		Eventually(ctx, func() int { return counts(ctx, host).Minus(before).Misses }).
			Should(BeNumerically(">", 0), "the first pull is served by the upstream")

		before = counts(ctx, host)
		pull(ctx, image)
		expectHits(ctx, host, before)
		Expect(counts(ctx, host).Minus(before).Misses).To(BeZero(), "the second pull is served by the cache")

		requests, err := log.Requests("/" + repository + "/")
		Expect(err).NotTo(HaveOccurred())
		Expect(requests).NotTo(BeEmpty())
		for _, request := range requests {
			Expect(request.Client).To(BeElementOf(addresses(ctx, host)), request.Line)
			// The first request of a client is anonymous: the response asks it to authenticate.
			if request.Status != http.StatusUnauthorized {
				Expect(request.User).To(Equal(robot), request.Line)
			}
		}
	}

	It("pulls a private image with token authentication", Label("token"), func(ctx context.Context) {
		configure(ctx, garden.Cache(garden.PrivateHost))
		pullsThroughCache(ctx, garden.PrivateHost)

		By("not changing the configuration that provisions new nodes")
		osc := &extensionsv1alpha1.OperatingSystemConfig{}
		Expect(c.Get(ctx, client.ObjectKey{Namespace: seedNamespace, Name: "gardener-node-agent-worker-init"}, osc)).To(Succeed())
		Expect(osc.Spec.CRIConfig.Containerd.Registries).To(BeEmpty())
	}, SpecTimeout(journeyTimeout))

	It("pulls a private image with basic authentication", Label("basic"), func(ctx context.Context) {
		configure(ctx, garden.Cache(garden.BasicHost))
		pullsThroughCache(ctx, garden.BasicHost)
	}, SpecTimeout(journeyTimeout))

	It("uses two caches at once", Label("two-caches"), func(ctx context.Context) {
		configure(ctx, garden.Cache(garden.PrivateHost), garden.Cache(garden.BasicHost))
		pullsThroughCache(ctx, garden.PrivateHost)
		pullsThroughCache(ctx, garden.BasicHost)
	}, SpecTimeout(journeyTimeout))

	It("works with and without TLS between node and cache", Label("tls"), func(ctx context.Context) {
		plain := garden.Cache(garden.PrivateHost)
		plain.HTTP = &v1alpha3.HTTP{TLS: new(false)}
		configure(ctx, plain)
		Expect(hostsFile(garden.PrivateHost)).To(And(MatchRegexp(`\[host\.["']http://`), Not(ContainSubstring("ca = "))))
		pullsThroughCache(ctx, garden.PrivateHost)

		By("switching TLS on")
		configure(ctx, garden.Cache(garden.PrivateHost))
		Expect(hostsFile(garden.PrivateHost)).To(And(MatchRegexp(`\[host\.["']https://`), ContainSubstring("ca = ")))
		pullsThroughCache(ctx, garden.PrivateHost)
	}, SpecTimeout(journeyTimeout))
})

// dockerConfig is the content of an imagePullSecret.
func dockerConfig(host, username, password string) []byte {
	GinkgoHelper()
	content, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{"username": username, "password": password}}})
	Expect(err).NotTo(HaveOccurred())
	return content
}
