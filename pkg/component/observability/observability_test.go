// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package observability_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/gardener/gardener/pkg/client/kubernetes"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/yaml"

	"github.com/larder-project/larder/pkg/cacheserver/status"
	"github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/component/observability"
	"github.com/larder-project/larder/pkg/upstream"
)

func exampleValues() observability.Values {
	return observability.Values{
		Namespace: "shoot--foo--bar",
		Caches: []observability.Cache{
			{Upstream: "docker.io", Replicas: 1},
			{Upstream: "registry.example.com:5000", Replicas: 2},
		},
	}
}

var _ = Describe("Objects", func() {
	It("match the golden files", func() {
		objects, err := observability.Objects(exampleValues())
		Expect(err).NotTo(HaveOccurred())
		Expect(objects).To(HaveLen(3))
		for _, object := range objects {
			gvk, err := apiutil.GVKForObject(object, kubernetes.SeedScheme)
			Expect(err).NotTo(HaveOccurred())
			object.GetObjectKind().SetGroupVersionKind(gvk)
			data, err := yaml.Marshal(object)
			Expect(err).NotTo(HaveOccurred())
			expectGolden(strings.ToLower(gvk.Kind)+".yaml", data)
		}
	})

	It("are the same for the same caches", func() {
		Expect(observability.Objects(exampleValues())).To(Equal(must(observability.Objects(exampleValues()))))
	})
})

var _ = Describe("ScrapeConfig", func() {
	// keep is the first relabeling of the configuration, on the values of its source labels.
	keep := func(pod, host, container, port string) bool {
		first := observability.ScrapeConfig(exampleValues()).Spec.RelabelConfigs[0]
		Expect(first.Action).To(Equal("keep"))
		return regexp.MustCompile("^(?:" + first.Regex + ")$").MatchString(strings.Join([]string{pod, host, container, port}, ";"))
	}

	It("keeps the debug port of every replica", func() {
		for _, c := range exampleValues().Caches {
			for ordinal := range int(c.Replicas) {
				pod := cache.PodName(c.Upstream.ResourceName(), ordinal)
				Expect(keep(pod, c.Upstream.LabelValue(), cache.ContainerName, cache.DebugPortName)).To(BeTrue(), pod)
			}
		}
	})

	DescribeTable("drops", func(pod, host, container, port string) {
		Expect(keep(pod, host, container, port)).To(BeFalse())
	},
		Entry("the registry port", "registry-docker-io-0", "docker.io", "registry-cache", "registry-cache"),
		Entry("another container of a replica", "registry-docker-io-0", "docker.io", "sidecar", "debug"),
		Entry("a pod beyond the replicas", "registry-docker-io-1", "docker.io", "registry-cache", "debug"),
		Entry("a pod with another name", "forged", "docker.io", "registry-cache", "debug"),
		Entry("a pod with the upstream of another cache", "registry-docker-io-0", "registry.example.com-5000", "registry-cache", "debug"),
		Entry("a pod whose name only resembles that of a replica", "registry-docker-io-0", "dockerxio", "registry-cache", "debug"),
	)

	It("limits the labels of a sample", func() {
		spec := observability.ScrapeConfig(exampleValues()).Spec
		repository := strings.Repeat("x", 255)
		Expect(spec.LabelLimit).To(HaveValue(BeNumerically(">=", len([]string{
			"__name__", "instance", "job", "node", "pod", "app", "app_kubernetes_io_name", "statefulset_kubernetes_io_pod_name", "upstream_host", "code", "kind", "upstream", "le",
		}))))
		Expect(spec.LabelNameLengthLimit).To(HaveValue(BeNumerically(">=", len("statefulset_kubernetes_io_pod_name"))))
		Expect(spec.LabelValueLengthLimit).To(HaveValue(BeNumerically(">=", len(repository))))
	})

	It("leaves the label type to the metrics of the caches", func() {
		for _, relabeling := range observability.ScrapeConfig(exampleValues()).Spec.RelabelConfigs {
			Expect(relabeling.TargetLabel).NotTo(Equal("type"))
		}
	})

	It("is small enough for Prometheus with the maximum of caches", func() {
		values := observability.Values{}
		for i := range 150 {
			values.Caches = append(values.Caches, observability.Cache{
				Upstream: upstream.Upstream(fmt.Sprintf("%d.%s.example.com", i, strings.Repeat("x", 60))), Replicas: 2,
			})
		}
		data, err := json.Marshal(observability.ScrapeConfig(values))
		Expect(err).NotTo(HaveOccurred())
		Expect(len(data)).To(BeNumerically("<", 64<<10), "the object stays small")
	})
})

var _ = Describe("PrometheusRule", func() {
	rules := func() []monitoringv1.Rule { return observability.PrometheusRule(exampleValues()).Spec.Groups[0].Rules }

	It("keeps the names, labels and durations that routes depend on", func() {
		for _, name := range []string{"RegistryCachePersistentVolumeUsageCritical", "RegistryCachePersistentVolumeFullInFourDays"} {
			i := slices.IndexFunc(rules(), func(rule monitoringv1.Rule) bool { return rule.Alert == name })
			Expect(i).To(BeNumerically(">=", 0), name)
			Expect(rules()[i].For).To(HaveValue(BeEquivalentTo("1h")))
			Expect(rules()[i].Labels).To(Equal(map[string]string{
				"service": "registry-cache-extension", "severity": "warning", "type": "shoot", "visibility": "owner",
			}))
		}
	})

	It("gives each alert a name, texts and a runbook of its own", func() {
		seen := map[string]bool{}
		for _, rule := range rules() {
			if rule.Alert == "" {
				continue
			}
			Expect(rule.Alert).To(HavePrefix("RegistryCache"))
			Expect(seen).NotTo(HaveKey(rule.Alert))
			seen[rule.Alert] = true
			Expect(rule.Annotations["summary"]).To(HaveSuffix("."))
			Expect(rule.Annotations["description"]).To(And(HaveSuffix("."), ContainSubstring("$labels."), ContainSubstring("registry cache")))
			Expect(rule.Annotations["runbook_url"]).To(HaveSuffix("docs/alerts.md#" + strings.ToLower(rule.Alert)))
		}
		Expect(seen).To(HaveLen(len(observability.Alerts())))
	})

	It("records series that are federated, with the upstream as the only label", func() {
		for _, rule := range observability.RecordingRules() {
			Expect(rule.Name).To(MatchRegexp("^shoot:(.+):(.+)$"))
			if rule.Expr != "" {
				Expect(rule.Expr).To(HavePrefix("sum by (upstream_host) ("))
			}
		}
	})

	It("has durations that Prometheus can parse", func() {
		for _, rule := range rules() {
			if rule.For != nil {
				_, err := model.ParseDuration(string(*rule.For))
				Expect(err).NotTo(HaveOccurred(), rule.Alert)
			}
		}
	})
})

var _ = Describe("Dashboard", func() {
	type grid struct{ H, W, X, Y int }
	type panel struct {
		ID      int
		Title   string
		GridPos grid
	}
	decode := func(data []byte) (dashboard struct {
		UID        string
		Panels     []panel
		Templating struct{ List []struct{ Name string } }
	}) {
		Expect(json.Unmarshal(data, &dashboard)).To(Succeed())
		return dashboard
	}

	for name, build := range map[string]func() ([]byte, error){"of a Shoot": observability.Dashboard, "of a seed": observability.SeedDashboard} {
		It("places the panels "+name+" without overlaps", func() {
			dashboard := decode(must(build()))
			Expect(len(dashboard.UID)).To(BeNumerically("<=", 40), "the limit of Plutono")
			taken := map[[2]int]string{}
			ids := map[int]bool{}
			for _, p := range dashboard.Panels {
				Expect(ids).NotTo(HaveKey(p.ID))
				ids[p.ID] = true
				Expect(p.GridPos.X+p.GridPos.W).To(BeNumerically("<=", 24), p.Title)
				for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
					for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
						Expect(taken).NotTo(HaveKey([2]int{x, y}), p.Title)
						taken[[2]int{x, y}] = p.Title
					}
				}
			}
		})
	}

	It("has the identifier of the dashboard that it replaces, and its variables", func() {
		dashboard := decode(must(observability.Dashboard()))
		Expect(dashboard.UID).To(Equal("extension-extension-registry-cache"))
		Expect(dashboard.Templating.List).To(ConsistOf(HaveField("Name", "upstream_host"), HaveField("Name", "pod")))
	})

	It("begins with the numbers of the status page", func() {
		var titles []string
		for _, panel := range observability.Rows()[0].Panels {
			Expect(panel.Kind).To(Equal(observability.Stat), panel.Title)
			Expect(panel.Queries).To(HaveLen(1), panel.Title)
			titles = append(titles, panel.Title)
		}
		Expect(titles).To(Equal(append(status.FirstRow(), "Alerts")))
	})

	It("describes each panel and replaces all variables in its queries", func() {
		for _, p := range slices.Concat(observability.Panels(), observability.SeedPanels()) {
			Expect(p.Meaning).To(HaveSuffix("."), p.Title)
			Expect(p.Queries).NotTo(BeEmpty(), p.Title)
			for _, query := range p.Queries {
				Expect(query.Evaluable()).NotTo(ContainSubstring("$"), p.Title)
			}
		}
	})
})

func must[T any](value T, err error) T {
	GinkgoHelper()
	Expect(err).NotTo(HaveOccurred())
	return value
}

func expectGolden(name string, actual []byte) {
	GinkgoHelper()
	file := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		Expect(os.WriteFile(file, actual, 0o600)).To(Succeed())
	}
	golden, err := os.ReadFile(file)
	Expect(err).NotTo(HaveOccurred(), "run the test with UPDATE_GOLDEN=1 to write it")
	Expect(string(actual)).To(Equal(string(golden)))
}
