// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/larder-project/larder/pkg/upstream"
)

var _ = Describe("Upstream", func() {
	// Volumes and Services of running clusters use these names.
	DescribeTable("names",
		func(host upstream.Upstream, labelValue, resourceName, remoteURL string) {
			Expect(host.LabelValue()).To(Equal(labelValue))
			Expect(host.ResourceName()).To(Equal(resourceName))
			Expect(host.ServiceName(nil)).To(Equal(resourceName))
			Expect(host.DefaultRemoteURL()).To(Equal(remoteURL))
		},
		Entry("Docker Hub", upstream.Upstream("docker.io"),
			"docker.io", "registry-docker-io", "https://registry-1.docker.io"),
		Entry("host", upstream.Upstream("europe-docker.pkg.dev"),
			"europe-docker.pkg.dev", "registry-europe-docker-pkg-dev", "https://europe-docker.pkg.dev"),
		Entry("host and port", upstream.Upstream("registry.example.com:5000"),
			"registry.example.com-5000", "registry-registry-example-com-5000", "https://registry.example.com:5000"),
		Entry("Docker Hub with a port", upstream.Upstream("docker.io:443"),
			"docker.io-443", "registry-docker-io-443", "https://docker.io:443"),
		Entry("43 characters", upstream.Upstream("my-very-long-registry.very-long-subdomain.a"),
			"my-very-long-registry.very-long-subdomain.a", "registry-my-very-long-registry-very-long-subdomain-a", "https://my-very-long-registry.very-long-subdomain.a"),
		Entry("44 characters", upstream.Upstream("my-very-long-registry.very-long-subdomain.io"),
			"my-very-long-registry.very-long-subdo-2fae3", "registry-my-very-long-registry-very-long-subdo-2fae3", "https://my-very-long-registry.very-long-subdomain.io"),
		Entry("43 characters with a port", upstream.Upstream("my-very-long-registry.long-subdomain.io:443"),
			"my-very-long-registry.long-subdomain.io-443", "registry-my-very-long-registry-long-subdomain-io-443", "https://my-very-long-registry.long-subdomain.io:443"),
		Entry("cut after a dot", upstream.Upstream(strings.Repeat("a", 36)+".example.com"),
			strings.Repeat("a", 36)+".-3a65c", "registry-"+strings.Repeat("a", 36)+"--3a65c", "https://"+strings.Repeat("a", 36)+".example.com"),
		Entry("cut after a hyphen", upstream.Upstream(strings.Repeat("a", 36)+"-b.example.com"),
			strings.Repeat("a", 36)+"--3b35f", "registry-"+strings.Repeat("a", 36)+"--3b35f", "https://"+strings.Repeat("a", 36)+"-b.example.com"),
		Entry("cut after the colon", upstream.Upstream(strings.Repeat("a", 36)+":"+strings.Repeat("1", 7)),
			strings.Repeat("a", 36)+"--c16d2", "registry-"+strings.Repeat("a", 36)+"--c16d2", "https://"+strings.Repeat("a", 36)+":1111111"),
	)

	It("names the Service after the suffix", func() {
		Expect(upstream.Upstream("docker.io").ServiceName(new("hub"))).To(Equal("registry-hub"))
		Expect(upstream.Upstream("docker.io").ServiceName(new(strings.Repeat("a", 54)))).To(HaveLen(63))
	})

	It("distinguishes long upstreams with a common prefix", func() {
		prefix := strings.Repeat("a", 40)
		Expect(upstream.Upstream(prefix + ".example.com").ResourceName()).NotTo(Equal(upstream.Upstream(prefix + ".example.org").ResourceName()))
	})

	It("derives valid names from any host", func() {
		random := rand.New(rand.NewPCG(uint64(GinkgoRandomSeed()), 0))
		for range 10_000 {
			checkNames(GinkgoTB(), randomHost(random))
		}
	})
})

// FuzzNames checks the names derived from any valid upstream.
func FuzzNames(f *testing.F) {
	for _, seed := range []string{"docker.io", "a:1", strings.Repeat("a-", 20) + "a.b:65535", strings.Repeat("a.", 100) + "a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		name, port, hasPort := strings.Cut(host, ":")
		if len(validation.IsDNS1123Subdomain(name)) > 0 || hasPort && (port == "" || strings.Trim(port, "0123456789") != "" || len(port) > 5) {
			t.Skip()
		}
		checkNames(t, host)
	})
}

func checkNames(t testing.TB, host string) {
	t.Helper()
	g := NewWithT(t)
	u := upstream.Upstream(host)
	g.Expect(validation.IsValidLabelValue(u.LabelValue())).To(BeEmpty(), host)
	g.Expect(len(u.LabelValue())).To(BeNumerically("<=", 43), host)
	g.Expect(validation.IsDNS1035Label(u.ResourceName())).To(BeEmpty(), host)
	g.Expect(len(u.ResourceName())).To(BeNumerically("<=", 52), host)
}

func randomHost(random *rand.Rand) string {
	const alphanumeric = "abcdefghijklmnopqrstuvwxyz0123456789"
	label := func() string {
		letters := make([]byte, 1+random.IntN(63))
		for i := range letters {
			letters[i] = (alphanumeric + "------")[random.IntN(len(alphanumeric)+6)]
		}
		letters[0], letters[len(letters)-1] = alphanumeric[random.IntN(36)], alphanumeric[random.IntN(36)]
		return string(letters)
	}
	labels := make([]string, 1+random.IntN(3))
	for i := range labels {
		labels[i] = label()
	}
	host := strings.Join(labels, ".")
	if random.IntN(2) == 0 {
		host = fmt.Sprintf("%s:%d", host, 1+random.IntN(65535))
	}
	return host
}
