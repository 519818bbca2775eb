// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gardener/gardener/pkg/client/kubernetes"
	"github.com/gardener/gardener/pkg/utils/imagevector"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	admission "github.com/larder-project/larder/cmd/gardener-extension-registry-cache-admission/app"
	extension "github.com/larder-project/larder/cmd/gardener-extension-registry-cache/app"
	configv1alpha1 "github.com/larder-project/larder/pkg/apis/config/v1alpha1"
	"github.com/larder-project/larder/pkg/component/observability"
)

// gardenletValues returns the values that gardenlet adds in a seed.
func gardenletValues(others values) values {
	merged := values{"gardener": values{
		"version":   "v1.150.0",
		"garden":    values{"clusterIdentity": "garden"},
		"gardenlet": values{"featureGates": values{}},
		"seed":      values{"name": "seed", "provider": "local", "region": "local", "taints": nil},
	}}
	for key, value := range others {
		merged[key] = value
	}
	return merged
}

// selfHostedValues returns the values of gardenlet on the first control plane node of a self-hosted Shoot.
func selfHostedValues() values {
	return values{
		"gardener":     values{"version": "v1.150.0", "selfHostedShootCluster": true},
		"usablePorts":  []any{12001, 12002, 12003},
		"replicaCount": 1,
	}
}

// operatorValues returns the values that gardener-operator adds for both parts of the admission component.
func operatorValues() values {
	return values{"gardener": values{
		"runtimeCluster": values{"priorityClassName": "gardener-garden-system-400"},
		"virtualCluster": values{
			"enabled":        true,
			"namespace":      "extension-extension-registry-cache",
			"serviceAccount": values{"name": "extension-admission-extension-registry-cache", "namespace": "kube-system"},
		},
	}}
}

var everythingElse = values{
	"image":         "mirror.example.com/larder/extension@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
	"replicaCount":  3,
	"resources":     nil,
	"vpa":           values{"enabled": false},
	"metrics":       values{"enableScraping": false},
	"dashboard":     values{"enabled": false},
	"podLabels":     values{"networking.example.com/to-proxy": "allowed"},
	"config":        values{"healthCheckConfig": values{"syncPeriod": "1m"}},
	"controllers":   values{"ignoreOperationAnnotation": true},
	"webhookConfig": values{"mode": "url", "url": "webhook.example.com"},
	"imageVectorOverwrite": values{"images": []any{
		values{"name": "registry-cache-server", "ref": "mirror.example.com/larder/registry-cache-server:v1"},
	}},
}

type chartCase struct {
	chart, namespace string
	values           values
}

var cases = map[string]chartCase{
	"extension":             {extensionChart, "extension-extension-registry-cache-abcde", gardenletValues(nil)},
	"extension-others":      {extensionChart, "extension-extension-registry-cache-abcde", gardenletValues(everythingElse)},
	"extension-self-hosted": {extensionChart, "extension-extension-registry-cache-abcde", selfHostedValues()},
	"admission-application": {applicationChart, "extension-extension-registry-cache", operatorValues()},
	"admission-runtime":     {runtimeChart, "garden", operatorValues()},
	"admission-one-cluster": {admissionChart, "garden", nil},
	"admission-client-ca":   {runtimeChart, "garden", values{"webhookConfig": values{"clientCA": exampleCA, "fromWorld": true}}},
}

// dashboardLabel is the label by which the Plutono of a seed finds dashboards.
const dashboardLabel = "dashboard.monitoring.gardener.cloud/seed"

const exampleCA = "-----BEGIN CERTIFICATE-----\nexample\n-----END CERTIFICATE-----\n"

var _ = Describe("charts", func() {
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		test := cases[name]
		Describe(name, func() {
			var objects []*unstructured.Unstructured

			BeforeEach(func() { objects = render(test.chart, test.namespace, test.values) })

			It("matches the golden file", func() { expectGolden(name, objects) })

			It("consists of known objects without unknown fields", func() {
				decoder := serializer.NewCodecFactory(kubernetes.SeedScheme, serializer.EnableStrict).UniversalDeserializer()
				for _, object := range objects {
					data, err := object.MarshalJSON()
					Expect(err).NotTo(HaveOccurred())
					_, _, err = decoder.Decode(data, nil, nil)
					Expect(err).NotTo(HaveOccurred(), "%s %s", object.GetKind(), object.GetName())
				}
			})

			It("puts namespaced objects into the namespace of the release", func() {
				for _, object := range objects {
					switch {
					case strings.HasPrefix(object.GetKind(), "Cluster"):
						Expect(object.GetNamespace()).To(BeEmpty())
					case object.GetLabels()[dashboardLabel] != "":
						Expect(object.GetNamespace()).To(Equal("garden"), "the namespace of Plutono")
					default:
						Expect(object.GetNamespace()).To(Equal(test.namespace), "%s %s", object.GetKind(), object.GetName())
					}
				}
			})

			It("has no wildcards in permissions", func() {
				for _, rule := range rulesOf(objects) {
					for _, list := range [][]string{rule.APIGroups, rule.Resources, rule.Verbs} {
						Expect(list).NotTo(ContainElement(ContainSubstring("*")))
					}
				}
			})

			It("complies with the restricted pod security standard", func() {
				for _, deployment := range typed[appsv1.Deployment](objects, "Deployment") {
					expectRestricted(&deployment.Spec.Template)
				}
			})

			It("selects the pods that it creates", func() {
				for _, deployment := range typed[appsv1.Deployment](objects, "Deployment") {
					labels := deployment.Spec.Template.Labels
					for key, value := range deployment.Spec.Selector.MatchLabels {
						Expect(labels).To(HaveKeyWithValue(key, value))
					}
					for _, service := range typed[corev1.Service](objects, "Service") {
						for key, value := range service.Spec.Selector {
							Expect(labels).To(HaveKeyWithValue(key, value))
						}
						expectTargets(&service, deployment.Spec.Template.Spec.Containers[0].Ports)
					}
				}
			})
		})
	}

	It("runs the programs with known flags", func() {
		programs := map[string]func() *cobra.Command{extensionChart: extension.NewCommand, admissionChart: admission.NewCommand}
		for name, test := range cases {
			for _, deployment := range typed[appsv1.Deployment](render(test.chart, test.namespace, test.values), "Deployment") {
				container := deployment.Spec.Template.Spec.Containers[0]
				Expect(programs[container.Name]().ParseFlags(container.Args)).To(Succeed(), name)
			}
		}
	})

	DescribeTable("configures the URL of the admission component", func(webhookConfig values, url string) {
		objects := render(runtimeChart, "garden", values{"webhookConfig": webhookConfig})
		Expect(typed[appsv1.Deployment](objects, "Deployment")[0].Spec.Template.Spec.Containers[0].Args).To(ContainElement("--webhook-config-url=" + url))
	},
		Entry("its Service", values{}, "gardener-extension-registry-cache-admission.garden:443"),
		Entry("another port of its Service", values{"servicePort": 8443}, "gardener-extension-registry-cache-admission.garden:8443"),
		Entry("a custom host", values{"url": "webhook.example.com"}, "webhook.example.com"),
	)

	DescribeTable("sets GOMEMLIMIT below the memory limit",
		func(chart string, resources values, expectedLimit, expected string) {
			container := typed[appsv1.Deployment](render(chart, "garden", values{"resources": resources}), "Deployment")[0].Spec.Template.Spec.Containers[0]
			Expect(container.Resources.Limits.Memory().String()).To(Equal(expectedLimit))
			limit := slices.IndexFunc(container.Env, func(e corev1.EnvVar) bool { return e.Name == "GOMEMLIMIT" })
			if expected == "" {
				Expect(limit).To(Equal(-1))
			} else {
				Expect(container.Env[limit].Value).To(Equal(expected))
			}
		},
		Entry("admission component", runtimeChart, values{}, "256Mi", "230MiB"),
		Entry("controller", extensionChart, values{}, "1Gi", "921MiB"),
		Entry("another limit", runtimeChart, values{"limits": values{"memory": "2Gi"}}, "2Gi", "1843MiB"),
		Entry("no limit", runtimeChart, values{"limits": nil}, "0", ""),
		Entry("no resources", extensionChart, nil, "0", ""),
	)

	It("admits only the API servers of the virtual garden to the webhooks by default", func() {
		annotations := func(chart string, others values) map[string]string {
			return typed[corev1.Service](render(chart, "garden", others), "Service")[0].Annotations
		}
		const world = "networking.resources.gardener.cloud/from-world-to-ports"
		Expect(annotations(runtimeChart, operatorValues())).To(And(
			HaveKey("networking.resources.gardener.cloud/from-all-webhook-targets-allowed-ports"), Not(HaveKey(world))))
		Expect(annotations(runtimeChart, values{"webhookConfig": values{"fromWorld": true}})).To(HaveKey(world))
		Expect(annotations(admissionChart, nil)).To(HaveKey(world), "no selector describes the API server of the cluster")
	})

	It("provides the CA of its clients to the admission component", func() {
		test := cases["admission-client-ca"]
		configMaps := typed[corev1.ConfigMap](render(test.chart, test.namespace, test.values), "ConfigMap")
		Expect(configMaps).To(ConsistOf(HaveField("Data", HaveKeyWithValue("ca.crt", exampleCA))))
	})

	It("provides valid files to the controller", func() {
		dir := GinkgoT().TempDir()
		read := 0
		for _, configMap := range typed[corev1.ConfigMap](render(extensionChart, "garden", gardenletValues(everythingElse)), "ConfigMap") {
			for name, content := range configMap.Data {
				file := filepath.Join(dir, name)
				Expect(os.WriteFile(file, []byte(content), 0o600)).To(Succeed())
				read++
			}
		}
		Expect(read).To(Equal(2))

		config, err := configv1alpha1.Load(filepath.Join(dir, "config.yaml"))
		Expect(err).NotTo(HaveOccurred())
		Expect(config.HealthCheckConfig.SyncPeriod.Duration.String()).To(Equal("1m0s"))
		images, _, err := imagevector.ReadFile(filepath.Join(dir, "images_overwrite.yaml"))
		Expect(err).NotTo(HaveOccurred())
		Expect(images).To(HaveLen(1))
	})

	It("provides the dashboard of the seed to Plutono as it is", func() {
		expected, err := observability.SeedDashboard()
		Expect(err).NotTo(HaveOccurred())
		isDashboard := func(configMap corev1.ConfigMap) bool { return configMap.Labels[dashboardLabel] == "true" }
		dashboards := func(values values) []corev1.ConfigMap {
			configMaps := typed[corev1.ConfigMap](render(extensionChart, "extension-abcde", values), "ConfigMap")
			return slices.DeleteFunc(configMaps, func(configMap corev1.ConfigMap) bool { return !isDashboard(configMap) })
		}
		found := dashboards(gardenletValues(nil))
		Expect(found).To(HaveLen(1))
		Expect(found[0].Data).To(HaveLen(1))
		Expect(found[0].Data["registry-cache-seed.dashboard.json"]).To(MatchJSON(expected), "run make generate to write it")
		Expect(dashboards(gardenletValues(everythingElse))).To(BeEmpty())
		Expect(dashboards(selfHostedValues())).To(BeEmpty())
	})

	It("permits the controller to change only its own objects for Prometheus and Plutono", func() {
		names := map[string]string{"scrapeconfigs": "shoot-registry-cache", "prometheusrules": "shoot-registry-cache", "configmaps": "registry-cache-dashboards"}
		granted := map[string][]string{}
		for _, role := range typed[rbacv1.ClusterRole](render(extensionChart, "garden", gardenletValues(nil)), "ClusterRole") {
			for _, rule := range role.Rules {
				for _, resource := range rule.Resources {
					name, ok := names[resource]
					if !ok {
						continue
					}
					granted[resource] = append(granted[resource], rule.Verbs...)
					if !slices.Equal(rule.Verbs, []string{"create"}) {
						Expect(rule.ResourceNames).To(ConsistOf(name), resource)
					}
				}
			}
		}
		for resource := range names {
			Expect(granted[resource]).To(ConsistOf("create", "get", "patch", "delete"), resource)
		}
	})

	It("restarts the pods if a file changes", func() {
		template := func(others values) corev1.PodTemplateSpec {
			objects := render(extensionChart, "garden", gardenletValues(others))
			return typed[appsv1.Deployment](objects, "Deployment")[0].Spec.Template
		}
		before := template(nil)
		Expect(template(nil)).To(Equal(before))
		Expect(template(values{"config": values{"healthCheckConfig": values{"syncPeriod": "1h"}}})).NotTo(Equal(before))
	})

	It("has the version of the repository", func() {
		content, err := os.ReadFile("../VERSION")
		Expect(err).NotTo(HaveOccurred())
		version := strings.TrimSpace(string(content))

		for _, chart := range []string{extensionChart, admissionChart, applicationChart, runtimeChart} {
			data, err := os.ReadFile(filepath.Join(chart, "Chart.yaml"))
			Expect(err).NotTo(HaveOccurred())
			metadata := struct {
				Version      string
				AppVersion   string
				Dependencies []struct{ Version string }
			}{}
			Expect(yaml.Unmarshal(data, &metadata)).To(Succeed())
			Expect(metadata.AppVersion).To(Equal(version), chart)
			Expect("v"+metadata.Version).To(Equal(version), chart)
			for _, dependency := range metadata.Dependencies {
				Expect("v"+dependency.Version).To(Equal(version), chart)
			}
		}
		for _, chart := range []string{extensionChart, runtimeChart} {
			for _, deployment := range typed[appsv1.Deployment](render(chart, "garden", nil), "Deployment") {
				Expect(deployment.Spec.Template.Spec.Containers[0].Image).To(HaveSuffix("/" + deployment.Name + ":" + version))
			}
		}
	})

	DescribeTable("refuses invalid values",
		func(chart string, values values, message string) {
			_, err := renderArchive(chart, "garden", values)
			Expect(err).To(MatchError(ContainSubstring(message)))
		},
		Entry("an image in parts", extensionChart, values{"image": values{"tag": "v1"}}, "image"),
		Entry("no image", runtimeChart, values{"image": ""}, "image"),
		Entry("an image vector in a string", extensionChart, values{"imageVectorOverwrite": "images: []"}, "imageVectorOverwrite"),
		Entry("an unknown webhook mode", extensionChart, values{"webhookConfig": values{"mode": "URL"}}, "mode"),
		Entry("mode url without a URL", extensionChart, values{"webhookConfig": values{"mode": "url"}}, "webhookConfig.url"),
		Entry("a memory limit in bytes", runtimeChart, values{"resources": values{"limits": values{"memory": "256000000"}}}, "memory"),
		Entry("an unknown log level", runtimeChart, values{"logLevel": "warn"}, "logLevel"),
		Entry("no ServiceAccount", applicationChart,
			values{"gardener": values{"virtualCluster": values{"serviceAccount": values{"name": ""}}}}, "serviceAccount.name"),
	)
})

func typed[T any](objects []*unstructured.Unstructured, kind string) []T {
	GinkgoHelper()
	var result []T
	for _, object := range objects {
		if object.GetKind() != kind {
			continue
		}
		var item T
		Expect(runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &item)).To(Succeed())
		result = append(result, item)
	}
	return result
}

func rulesOf(objects []*unstructured.Unstructured) []rbacv1.PolicyRule {
	GinkgoHelper()
	var rules []rbacv1.PolicyRule
	for _, role := range typed[rbacv1.ClusterRole](objects, "ClusterRole") {
		rules = append(rules, role.Rules...)
	}
	for _, role := range typed[rbacv1.Role](objects, "Role") {
		rules = append(rules, role.Rules...)
	}
	return rules
}

func expectRestricted(template *corev1.PodTemplateSpec) {
	GinkgoHelper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	Expect(err).NotTo(HaveOccurred())
	level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	for _, result := range evaluator.EvaluatePod(level, &template.ObjectMeta, &template.Spec) {
		Expect(result.Allowed).To(BeTrue(), "%s: %s", result.ForbiddenReason, result.ForbiddenDetail)
	}
	for _, container := range template.Spec.Containers {
		Expect(container.SecurityContext.ReadOnlyRootFilesystem).To(HaveValue(BeTrue()))
	}
}

func expectTargets(service *corev1.Service, ports []corev1.ContainerPort) {
	GinkgoHelper()
	for _, port := range service.Spec.Ports {
		Expect(slices.ContainsFunc(ports, func(p corev1.ContainerPort) bool { return p.Name == port.TargetPort.StrVal })).To(BeTrue(), port.Name)
	}
}
