// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"io"
	"net/http"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/upstreamsim"
)

// The names of these metrics are Distribution's; dashboards depend on them.
var _ = Describe("metrics", func() {
	It("keeps the names of Distribution", func(ctx context.Context) {
		f := given(ctx, cold, upstreamsim.Options{})
		blob := f.image.Layers()[0]
		for range 3 {
			Expect(f.get(ctx, http.MethodGet, blobPath(blob), nil).status).To(Equal(http.StatusOK))
			Expect(f.get(ctx, http.MethodGet, "/v2/"+name+"/manifests/"+f.image.Digest().String(), nil).status).To(Equal(http.StatusOK))
		}
		Eventually(ctx, func(g Gomega) {
			metrics := f.metrics(ctx)
			for _, line := range []string{
				`registry_proxy_requests_total{type="blob"} 3`,
				`registry_proxy_requests_total{type="manifest"} 3`,
				`registry_proxy_misses_total{type="blob"} 1`,
				`registry_proxy_hits_total{type="blob"} 2`,
				`registry_proxy_misses_total{type="manifest"} 1`,
				`registry_proxy_hits_total{type="manifest"} 2`,
				`registry_proxy_pulled_bytes_total{type="blob"} 100000`,
				`registry_proxy_pushed_bytes_total{type="blob"} 300000`,
			} {
				g.Expect(metrics).To(ContainSubstring(line + "\n"))
			}
		}).Should(Succeed())
	})
})

func (f *fixture) metrics(ctx context.Context) string {
	GinkgoHelper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.server.MetricsURL(), nil)
	Expect(err).NotTo(HaveOccurred())
	response, err := http.DefaultClient.Do(request)
	Expect(err).NotTo(HaveOccurred())
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	Expect(err).NotTo(HaveOccurred())
	return string(body)
}
