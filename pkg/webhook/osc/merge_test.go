// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/larder-project/larder/pkg/apis/mirror"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/webhook/osc/osctest"
)

// webhook changes an OperatingSystemConfig like a webhook.
type webhook func(*extensionsv1alpha1.OperatingSystemConfig)

// testWebhooks are the webhooks of this extension with a cache for docker.io and a mirror for quay.io, and others.
var testWebhooks = map[string]webhook{
	"caches": func(osc *extensionsv1alpha1.OperatingSystemConfig) {
		addCaches(osc, dockerTLS, internalPlain)
	},
	"mirrors": func(osc *extensionsv1alpha1.OperatingSystemConfig) {
		addMirrors(osc, mirror.Mirror{Upstream: "quay.io", Hosts: []mirror.Host{
			{Host: "https://first.example.com", Capabilities: pull, CABundleSecretReferenceName: new("ca")},
			{Host: "https://second.example.com", Capabilities: pull},
		}})
	},
	"mirrors-of-docker": func(osc *extensionsv1alpha1.OperatingSystemConfig) {
		addMirrors(osc, dockerMirror)
	},
	"peer-to-peer": osctest.PeerToPeer,
	"peer-for-all": osctest.PeerForAll,
	"rewriter":     osctest.Rewriter,
	"default":      osctest.Default,
}

// changedWebhooks are the webhooks of this extension after the cache and the mirror were exchanged.
var changedWebhooks = map[string]webhook{
	"caches": func(osc *extensionsv1alpha1.OperatingSystemConfig) {
		addCaches(osc, internalPlain, registry.RegistryCacheStatus{Upstream: "quay.io", Endpoint: "http://10.4.0.30:5000", RemoteURL: "https://quay.io"})
	},
	"mirrors": func(osc *extensionsv1alpha1.OperatingSystemConfig) {
		addMirrors(osc, dockerMirror)
	},
}

func webhookFor(name string, replaced ...map[string]webhook) webhook {
	for _, webhooks := range replaced {
		if webhook, ok := webhooks[name]; ok {
			return webhook
		}
	}
	return testWebhooks[name]
}

// fromScratch returns what gardenlet writes: the annotations stay, the rest is without changes of webhooks.
func fromScratch(osc *extensionsv1alpha1.OperatingSystemConfig) *extensionsv1alpha1.OperatingSystemConfig {
	written := bareOSC()
	written.Annotations = maps.Clone(osc.Annotations)
	return written
}

func addCaches(osc *extensionsv1alpha1.OperatingSystemConfig, caches ...registry.RegistryCacheStatus) {
	GinkgoHelper()
	config, err := configForCaches(&registry.RegistryStatus{Caches: caches}, testCABundle, nil)
	Expect(err).NotTo(HaveOccurred())
	Expect(config.addTo(osc)).To(Succeed())
}

func addMirrors(osc *extensionsv1alpha1.OperatingSystemConfig, mirrors ...mirror.Mirror) {
	GinkgoHelper()
	config, err := configForMirrors(mirrorsOf(mirrors...), caBundles)
	Expect(err).NotTo(HaveOccurred())
	Expect(config.addTo(osc)).To(Succeed())
}

func permutations(names []string) [][]string {
	if len(names) <= 1 {
		return [][]string{names}
	}
	var all [][]string
	for i, name := range names {
		for _, rest := range permutations(slices.Concat(names[:i], names[i+1:])) {
			all = append(all, append([]string{name}, rest...))
		}
	}
	return all
}

var _ = Describe("Several webhooks", func() {
	var (
		cache, plain  = dockerTLS.Endpoint, internalPlain.Endpoint
		first, second = "https://first.example.com", "https://second.example.com"
		docker        = "server https://registry-1.docker.io"
		internal      = "server http://internal.example.com:8080"
		quay          = "server https://quay.io"
	)

	// run calls webhooks one after the other, and then those of this extension again, as an API server does if a later
	// webhook changed the object.
	run := func(osc *extensionsv1alpha1.OperatingSystemConfig, names []string, replaced ...map[string]webhook) {
		for _, name := range names {
			webhookFor(name, replaced...)(osc)
		}
		for _, name := range names {
			if name == "caches" || strings.HasPrefix(name, "mirrors") {
				webhookFor(name, replaced...)(osc)
			}
		}
	}

	DescribeTable("have the same result in any order, when they are called again, and when one is removed",
		func(expected map[string][]string, names ...string) {
			for _, order := range permutations(names) {
				description := strings.Join(order, ", ")
				osc := bareOSC()
				run(osc, order)
				Expect(osctest.Hosts(osc)).To(Equal(expected), description)

				again := osc.DeepCopy()
				run(again, order)
				Expect(again.Spec).To(Equal(osc.Spec), description+", again")

				backwards := osc.DeepCopy()
				slices.Reverse(order)
				run(backwards, order)
				Expect(osctest.Hosts(backwards)).To(Equal(expected), description+", again in reverse order")

				// Gardenlet writes the rest from scratch, but keeps annotations.
				changed := func(osc *extensionsv1alpha1.OperatingSystemConfig) *extensionsv1alpha1.OperatingSystemConfig {
					run(osc, order, changedWebhooks)
					return osc
				}
				Expect(changed(fromScratch(osc))).To(Equal(changed(bareOSC())), description+", written from scratch after a change")

				// Other writers change the rest.
				for _, removed := range []struct {
					name string
					webhook
				}{
					{"caches", func(osc *extensionsv1alpha1.OperatingSystemConfig) { addCaches(osc) }},
					{"mirrors", func(osc *extensionsv1alpha1.OperatingSystemConfig) { addMirrors(osc) }},
					{"mirrors-of-docker", func(osc *extensionsv1alpha1.OperatingSystemConfig) { addMirrors(osc) }},
				} {
					if !slices.Contains(order, removed.name) {
						continue
					}
					others := slices.DeleteFunc(slices.Clone(order), func(name string) bool { return name == removed.name })
					without := bareOSC()
					run(without, others)

					// Only the webhook of the caches is called again, if there are caches.
					rest := osc.DeepCopy()
					removed.webhook(rest)
					if removed.name != "caches" && slices.Contains(order, "caches") {
						testWebhooks["caches"](rest)
					}
					Expect(osctest.Hosts(rest)).To(Equal(osctest.Hosts(without)), fmt.Sprintf("%s, without %s", description, removed.name))
					Expect(rest.Spec.Files).To(ConsistOf(without.Spec.Files))
					Expect(rest.Annotations).To(HaveLen(len(without.Annotations)))
				}
			}
		},
		Entry("only this extension",
			map[string][]string{"docker.io": {cache, docker}, "internal.example.com": {plain, internal}, "quay.io": {first, second, quay}},
			"caches", "mirrors"),
		Entry("a peer-to-peer host comes first",
			map[string][]string{
				"_default": {osctest.PeerURL}, "docker.io": {osctest.PeerURL, cache, docker},
				"internal.example.com": {osctest.PeerURL, plain, internal}, "quay.io": {osctest.PeerURL, first, second, quay},
			},
			"caches", "mirrors", "peer-to-peer"),
		Entry("a peer-to-peer host that others add only for all upstreams comes first",
			map[string][]string{
				"_default": {osctest.PeerURL}, "docker.io": {osctest.PeerURL, cache, docker},
				"internal.example.com": {osctest.PeerURL, plain, internal}, "quay.io": {osctest.PeerURL, first, second, quay},
			},
			"caches", "mirrors", "peer-for-all"),
		Entry("another host comes last",
			map[string][]string{
				"docker.io": {cache, osctest.RewriterURL, docker}, "internal.example.com": {plain, internal}, "quay.io": {first, second, quay},
			},
			"caches", "mirrors", "rewriter"),
		Entry("another host for all upstreams stays where it is",
			map[string][]string{
				"_default": {osctest.DefaultURL}, "docker.io": {cache, docker}, "internal.example.com": {plain, internal}, "quay.io": {first, second, quay},
			},
			"caches", "mirrors", "default"),
		Entry("a cache comes before mirrors of its upstream",
			map[string][]string{
				"docker.io": {cache, dockerMirror.Hosts[0].Host, dockerMirror.Hosts[1].Host, docker}, "internal.example.com": {plain, internal},
			},
			"caches", "mirrors-of-docker"),
		Entry("a cache and mirrors of its upstream between hosts of others",
			map[string][]string{
				"_default":             {osctest.PeerURL},
				"docker.io":            {osctest.PeerURL, cache, dockerMirror.Hosts[0].Host, dockerMirror.Hosts[1].Host, osctest.RewriterURL, docker},
				"internal.example.com": {osctest.PeerURL, plain, internal},
			},
			"caches", "mirrors-of-docker", "peer-for-all", "rewriter"),
	)

	It("has one order of hosts, whichever webhooks come before this extension's", func() {
		for _, order := range permutations([]string{"peer-to-peer", "rewriter", "default"}) {
			osc := bareOSC()
			run(osc, order)
			run(osc, []string{"caches", "mirrors"})
			Expect(osctest.Hosts(osc)).To(HaveKeyWithValue("docker.io", []string{osctest.PeerURL, cache, osctest.RewriterURL, docker}), strings.Join(order, ", "))
			Expect(osctest.Hosts(osc)).To(HaveKeyWithValue("quay.io", []string{osctest.PeerURL, first, second, quay}), strings.Join(order, ", "))
			Expect(osctest.Hosts(osc)["_default"]).To(ConsistOf(osctest.PeerURL, osctest.DefaultURL))
		}
	})

	It("leaves entries of others as they are", func() {
		osc := bareOSC()
		run(osc, []string{"peer-to-peer", "rewriter"})
		before := osc.DeepCopy()
		run(osc, []string{"caches", "mirrors"})
		after := osc.Spec.CRIConfig.Containerd.Registries
		for i, entry := range before.Spec.CRIConfig.Containerd.Registries {
			Expect(after[i].Upstream).To(Equal(entry.Upstream), "its place")
			for _, host := range entry.Hosts {
				Expect(after[i].Hosts).To(ContainElement(host))
			}
		}
		addCaches(osc)
		addMirrors(osc)
		Expect(osc.Spec).To(Equal(before.Spec))
		Expect(osc.Annotations).To(BeEmpty())
	})
})

var _ = Describe("addTo", func() {
	It("replaces what it added before", func() {
		osc := bareOSC()
		addCaches(osc, dockerPlain, internalPlain)
		moved := dockerPlain
		moved.Endpoint = "http://10.4.0.20:5000"
		addCaches(osc, moved)
		Expect(osctest.Hosts(osc)).To(Equal(map[string][]string{"docker.io": {moved.Endpoint, "server " + moved.RemoteURL}}))
	})

	It("replaces what another implementation added", func() {
		osc := bareOSC()
		osc.Spec.CRIConfig.Containerd.Registries = []extensionsv1alpha1.RegistryConfig{{
			Upstream: "docker.io", Server: new("https://registry-1.docker.io"), ReadinessProbe: new(true),
			Hosts: []extensionsv1alpha1.RegistryHost{{URL: dockerTLS.Endpoint, Capabilities: []extensionsv1alpha1.RegistryCapability{"pull", "resolve"}, CACerts: []string{caBundlePath}}},
		}}
		addCaches(osc, dockerTLS)
		Expect(osctest.Hosts(osc)).To(Equal(map[string][]string{"docker.io": {dockerTLS.Endpoint, "server " + dockerTLS.RemoteURL}}))
		Expect(osctest.Installed(osc)).To(HaveKey("docker.io"))
		Expect(osc.Spec.CRIConfig.Containerd.Registries).To(BeEmpty(), "the node agent would write the same hosts.toml")
	})

	It("restores the server and the readiness probe of others", func() {
		osc := bareOSC()
		osc.Spec.CRIConfig.Containerd.Registries = []extensionsv1alpha1.RegistryConfig{
			{Upstream: "docker.io", Server: new("https://other.example.com"), Hosts: []extensionsv1alpha1.RegistryHost{{URL: osctest.RewriterURL}}},
			{Upstream: "internal.example.com", ReadinessProbe: new(true), Hosts: []extensionsv1alpha1.RegistryHost{{URL: osctest.PeerURL}}},
		}
		before := osc.DeepCopy()
		addCaches(osc, dockerPlain, internalPlain)
		Expect(osc.Spec.CRIConfig.Containerd.Registries[0].Server).To(HaveValue(Equal(dockerPlain.RemoteURL)))
		Expect(osc.Spec.CRIConfig.Containerd.Registries).To(HaveEach(HaveField("ReadinessProbe", BeNil())), "they have hosts of others")
		addCaches(osc)
		Expect(osc.Spec).To(Equal(before.Spec))
	})

	DescribeTable("installs the hosts.toml of a cache unless its upstream has other hosts",
		func(expected bool, names ...string) {
			for _, order := range permutations(append(names, "caches")) {
				osc := bareOSC()
				for range 2 {
					for _, name := range order {
						testWebhooks[name](osc)
					}
				}
				description := strings.Join(order, ", ")
				if expected {
					Expect(osctest.Installed(osc)).To(HaveKey("docker.io"), description)
				} else {
					Expect(osctest.Installed(osc)).NotTo(HaveKey("docker.io"), description)
				}
				for _, entry := range osc.Spec.CRIConfig.Containerd.Registries {
					Expect(entry.Upstream == "docker.io" && expected).To(BeFalse(), "the node agent would write the same file: "+description)
					Expect(entry.ReadinessProbe).To(BeNil(), description)
				}
			}
		},
		Entry("only caches", true),
		Entry("mirrors of other upstreams", true, "mirrors"),
		Entry("mirrors of its upstream", false, "mirrors-of-docker"),
		Entry("a peer-to-peer host", false, "peer-to-peer"),
		Entry("a peer-to-peer host for all upstreams", false, "peer-for-all"),
		Entry("another host", false, "rewriter"),
		Entry("another host for all upstreams", true, "default"),
		Entry("all of them", false, "mirrors", "peer-to-peer", "rewriter", "default"),
	)

	It("adds a cache to an entry of others without hosts, which the node agent would write as well", func() {
		osc := bareOSC()
		osc.Spec.CRIConfig.Containerd.Registries = []extensionsv1alpha1.RegistryConfig{{Upstream: "docker.io", Server: new("https://other.example.com")}}
		before := osc.DeepCopy()
		for range 2 {
			addCaches(osc, dockerPlain)
			Expect(osctest.Installed(osc)).To(BeEmpty())
			Expect(osctest.Hosts(osc)).To(Equal(map[string][]string{"docker.io": {dockerPlain.Endpoint, "server " + dockerPlain.RemoteURL}}))
		}
		addCaches(osc)
		Expect(apiequality.Semantic.DeepEqual(osc.Spec, before.Spec)).To(BeTrue())
	})

	It("removes the unit and its files with the last cache", func() {
		osc := bareOSC()
		osc.Spec.Units = []extensionsv1alpha1.Unit{{Name: "containerd.service"}}
		before := osc.DeepCopy()
		addCaches(osc, dockerTLS, internalPlain)
		Expect(osc.Spec.Units).To(HaveLen(2))
		addCaches(osc)
		Expect(osc.Spec).To(Equal(before.Spec))
	})

	It("switches the probe of others off while their entry has mirrors", func() {
		osc := bareOSC()
		entry := entryFor("docker.io", osctest.RewriterURL)
		entry.ReadinessProbe = new(true)
		osc.Spec.CRIConfig.Containerd.Registries = []extensionsv1alpha1.RegistryConfig{entry}
		before := osc.DeepCopy()
		for range 2 {
			addMirrors(osc, dockerMirror)
			Expect(osc.Spec.CRIConfig.Containerd.Registries[0].ReadinessProbe).To(BeNil())
		}
		addMirrors(osc)
		Expect(osc.Spec).To(Equal(before.Spec))
	})

	DescribeTable("ignores an annotation that", func(annotation string) {
		osc := bareOSC()
		osc.Annotations = map[string]string{"registry.extensions.gardener.cloud/containerd-registries": annotation}
		osc.Spec.CRIConfig.Containerd.Registries = []extensionsv1alpha1.RegistryConfig{entryFor("docker.io", osctest.RewriterURL)}
		addCaches(osc, dockerPlain)
		Expect(osctest.Hosts(osc)).To(HaveKeyWithValue("docker.io", []string{dockerPlain.Endpoint, osctest.RewriterURL, "server " + dockerPlain.RemoteURL}))
	},
		Entry("cannot be read", `{"docker.io":`),
		Entry("has another form", `["docker.io"]`),
		Entry("has another form within", `{"docker.io":{"created":true,"hosts":["`+hash(extensionsv1alpha1.RegistryHost{URL: osctest.RewriterURL})+`"]},"quay.io":[]}`),
		Entry("records a host that is gone", `{"docker.io":{"created":true,"hosts":["`+hash(extensionsv1alpha1.RegistryHost{URL: osctest.RewriterURL})+`"]},"quay.io":{"hosts":["0123456789abcdef"]}}`),
	)

	Describe("with a host of others that has the URL of a mirror", func() {
		var (
			region = mirror.Host{Host: osctest.RewriterURL, Capabilities: pullResolve, CABundleSecretReferenceName: new("ca")}
			local  = mirror.Host{Host: osctest.PeerURL, Capabilities: pull}
			first  = mirror.Host{Host: "https://first.example.com", Capabilities: pull}
			server = "server https://registry-1.docker.io"
		)

		DescribeTable("keeps the host, also when the mirror goes",
			func(hosts []mirror.Host, expected []string, webhooks ...webhook) {
				osc := bareOSC()
				for _, webhook := range webhooks {
					webhook(osc)
				}
				before := osc.DeepCopy()
				for range 2 {
					addMirrors(osc, mirror.Mirror{Upstream: "docker.io", Hosts: hosts})
					Expect(osctest.Hosts(osc)["docker.io"]).To(Equal(expected))
					for i, entry := range before.Spec.CRIConfig.Containerd.Registries {
						for _, host := range entry.Hosts {
							Expect(osc.Spec.CRIConfig.Containerd.Registries[i].Hosts).To(ContainElement(host))
						}
					}
				}
				addMirrors(osc)
				Expect(osc.Spec).To(Equal(before.Spec))
				Expect(osc.Annotations).To(BeEmpty())
			},
			Entry("only this mirror", []mirror.Host{region}, []string{osctest.RewriterURL, server}, osctest.Rewriter),
			Entry("before another mirror", []mirror.Host{region, first}, []string{osctest.RewriterURL, first.Host, server}, osctest.Rewriter),
			Entry("after another mirror", []mirror.Host{first, region}, []string{first.Host, osctest.RewriterURL, server}, osctest.Rewriter),
			Entry("a host on the node", []mirror.Host{first, local}, []string{osctest.PeerURL, first.Host, osctest.RewriterURL, server}, osctest.Rewriter, osctest.PeerToPeer),
			Entry("a host on the node for all upstreams", []mirror.Host{first, local}, []string{osctest.PeerURL, first.Host, server}, osctest.PeerForAll),
			Entry("only a host on the node for all upstreams", []mirror.Host{local}, nil, osctest.PeerForAll),
		)

		It("replaces the host of another implementation, which has its CA file", func() {
			osc := bareOSC()
			osc.Spec.CRIConfig.Containerd.Registries = []extensionsv1alpha1.RegistryConfig{
				entryFor("docker.io", region.Host, "/etc/containerd/certs.d/docker.io/region.example.com-ca-bundle.pem"),
			}
			addMirrors(osc, mirror.Mirror{Upstream: "docker.io", Hosts: []mirror.Host{region}})
			Expect(osc.Spec.CRIConfig.Containerd.Registries[0].Hosts).To(ConsistOf(HaveField("CACerts", ConsistOf(mirrorCAPath(testCABundle)))))
		})
	})

	Describe("after gardenlet has written the rest from scratch", func() {
		var (
			region  = mirror.Mirror{Upstream: "docker.io", Hosts: []mirror.Host{{Host: osctest.RewriterURL, Capabilities: pull}}}
			quay    = mirror.Mirror{Upstream: "quay.io", Hosts: []mirror.Host{{Host: "https://first.example.com", Capabilities: pull}}}
			servers = map[string][]string{"docker.io": {osctest.RewriterURL, "server https://registry-1.docker.io"}, "quay.io": {"https://first.example.com", "server https://quay.io"}}
		)

		It("keeps the server of a cache that replaces a mirror", func() {
			osc := bareOSC()
			addMirrors(osc, dockerMirror, quay)
			osc = fromScratch(osc)
			addCaches(osc, dockerTLS)
			addMirrors(osc, quay)
			Expect(osctest.Hosts(osc)).To(HaveKeyWithValue("docker.io", []string{dockerTLS.Endpoint, "server https://registry-1.docker.io"}))
		})

		It("keeps a host of others with the URL of a removed mirror", func() {
			osc := bareOSC()
			addMirrors(osc, region, quay)
			osc = fromScratch(osc)
			osctest.Rewriter(osc)
			addMirrors(osc, quay)
			Expect(osctest.Hosts(osc)).To(Equal(servers))
		})

		It("keeps a host of others with the URL of the only mirror before", func() {
			osc := bareOSC()
			addMirrors(osc, region)
			osc = fromScratch(osc)
			osctest.Rewriter(osc)
			addMirrors(osc, quay)
			Expect(osctest.Hosts(osc)).To(Equal(servers))
		})

		It("keeps the server of others after a mirror is removed", func() {
			osc := bareOSC()
			addMirrors(osc, dockerMirror, quay)
			osc = fromScratch(osc)
			osctest.Rewriter(osc)
			addMirrors(osc, quay)
			Expect(osctest.Hosts(osc)).To(Equal(servers))
		})

		It("keeps the readiness probe of others after a cache is removed", func() {
			osc := bareOSC()
			addCaches(osc, dockerTLS, internalPlain)
			osc = fromScratch(osc)
			entry := entryFor("docker.io", osctest.RewriterURL)
			entry.ReadinessProbe = new(true)
			osc.Spec.CRIConfig.Containerd.Registries = []extensionsv1alpha1.RegistryConfig{entry}
			addCaches(osc, internalPlain)
			Expect(osc.Spec.CRIConfig.Containerd.Registries[0]).To(Equal(entry))
		})

		It("keeps a peer-to-peer host that was for all upstreams before", func() {
			osc := bareOSC()
			osc.Spec.CRIConfig.Containerd.Registries = []extensionsv1alpha1.RegistryConfig{entryFor("_default", osctest.PeerURL)}
			addCaches(osc, dockerTLS)
			osc = fromScratch(osc)
			osc.Spec.CRIConfig.Containerd.Registries = []extensionsv1alpha1.RegistryConfig{entryFor("docker.io", osctest.PeerURL)}
			addCaches(osc, dockerTLS)
			Expect(osctest.Hosts(osc)).To(HaveKeyWithValue("docker.io", []string{osctest.PeerURL, dockerTLS.Endpoint, "server https://registry-1.docker.io"}))
		})
	})

	DescribeTable("isLocal", func(url string, expected bool) {
		Expect(isLocal(extensionsv1alpha1.RegistryHost{URL: url})).To(Equal(expected))
	},
		Entry("localhost", "http://localhost:15500", true),
		Entry("IPv4", "http://127.0.0.1:15500/path", true),
		Entry("IPv6", "http://[::1]:15500", true),
		Entry("a cache", "http://10.4.0.10:5000", false),
		Entry("a name that starts alike", "http://localhost.example.com", false),
		Entry("no URL", "http://[::1", false),
	)
})
