// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/test/enginetest"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

const (
	name = enginetest.Name
	mib  = 1 << 20
)

var _ = Describe("Engine", func() {
	enginetest.ExpectNoLeaks()

	It("fetches each object once for many clients, with one token", func() {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{
			Authentication: upstreamsim.Bearer, Username: "robot", Password: "an-obvious-test-password",
		}, func(o *pullthrough.Options) {
			o.Credential = credentials.Credential{Username: "robot", Password: "an-obvious-test-password"}
		})
		image := upstreamsim.RandomImage(1, 3, 2*mib)
		c.Upstream.Push(name, "v1", image)
		c.Upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.ManifestGet}, Hold: true})
		var done sync.WaitGroup
		for range 12 {
			done.Go(func() {
				defer GinkgoRecover()
				client := pull.NewClient(c.Server.URL, &http.Transport{})
				defer client.Close()
				_, err := client.Image(context.Background(), name, "v1")
				Expect(err).NotTo(HaveOccurred())
			})
		}
		Eventually(func() float64 { return c.Value("coalesced_total") }).Should(BeEquivalentTo(11))
		c.Upstream.Misbehave(upstreamsim.Faults{})
		done.Wait()
		counters := c.Upstream.Counters()
		Expect(counters.MostRequested()).To(Equal(1))
		Expect(counters.Total(upstreamsim.Token)).To(BeNumerically("<=", 2), "one for the repository, one to try the credential")
		Expect(counters.Bytes).To(Equal(image.Size()))
		Expect(c.Value("pulled_bytes_total")).To(BeEquivalentTo(image.Size()))
		// An answer is counted when it has been sent, which its client may know first.
		Eventually(func() float64 { return c.Value("pushed_bytes_total", "type", "blob") }).Should(BeNumerically(">=", 12*6*mib))
		Eventually(func() float64 { return c.Value("misses_total", "type", "blob") }).Should(BeEquivalentTo(4))
		c.Upstream.Refuse()
		c.Restart(nil)
		Expect(c.Pull(name, "v1")).To(Succeed())
		Expect(c.Pull(name, image.Digest().String())).To(Succeed())
	})

	It("rebuilds a lost index while it serves", func() {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		c.Upstream.Push(name, "v1", upstreamsim.RandomImage(1, 2, mib))
		Expect(c.Pull(name, "v1")).To(Succeed())
		c.Stop()
		Expect(os.RemoveAll(filepath.Join(c.Root, "pullthrough"))).To(Succeed())
		c.Upstream.Refuse()
		c.Start(nil)
		Expect(c.Pull(name, "v1")).To(Succeed())
		Eventually(func() float64 { return c.Value("storage_used_bytes") }).Should(BeNumerically(">", 2*mib))
	})

	It("runs several engines in one process", func() {
		first := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		second := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		first.Upstream.Push(name, "v1", upstreamsim.RandomImage(1, 1, 1000))
		second.Upstream.Push(name, "v1", upstreamsim.RandomImage(2, 1, 1000))
		a, err := first.Client.Head(context.Background(), name, "v1")
		Expect(err).NotTo(HaveOccurred())
		b, err := second.Client.Head(context.Background(), name, "v1")
		Expect(err).NotTo(HaveOccurred())
		Expect(a).NotTo(Equal(b))
	})

	It("refuses writes", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 100)
		c.Upstream.Push(name, "v1", image)
		Expect(c.Pull(name, "v1")).To(Succeed())
		c.Upstream.Refuse()
		for path, method := range map[string]string{
			"blobs/uploads/":                       http.MethodPost,
			"manifests/v1":                         http.MethodDelete,
			"manifests/" + image.Digest().String(): http.MethodDelete,
			"blobs/" + image.Layers()[0].Descriptor().Digest.String(): http.MethodDelete,
		} {
			request, err := http.NewRequestWithContext(ctx, method, c.Server.URL+"/v2/"+name+"/"+path, http.NoBody)
			Expect(err).NotTo(HaveOccurred())
			response, err := http.DefaultClient.Do(request)
			Expect(err).NotTo(HaveOccurred())
			Expect(response.Body.Close()).To(Succeed())
			Expect(response.StatusCode).To(Equal(http.StatusMethodNotAllowed), path)
		}
		Expect(c.Pull(name, "v1")).To(Succeed(), "all of it is still there")
	})
})
