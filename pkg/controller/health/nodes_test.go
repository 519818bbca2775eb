// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/controller/readiness"
)

var _ = Describe("A cache only for nodes", func() {
	const namespace = "shoot--dev--example"
	config := func(name, annotation string) *extensionsv1alpha1.OperatingSystemConfig {
		return &extensionsv1alpha1.OperatingSystemConfig{ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, Annotations: map[string]string{registry.SharedRegistriesAnnotation: annotation},
		}}
	}

	DescribeTable("reports that nodes cannot present their certificate to it", func(ctx SpecContext, mode registry.AccessMode, annotation string, reason readiness.Reason) {
		reader := fake.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(config("first", `{"quay.io":{}}`), config("second", annotation)).Build()
		status := registry.RegistryCacheStatus{Upstream: "docker.io", AccessMode: mode}
		shared, err := (&Reconciler{Client: reader}).sharedRegistries(ctx, namespace, &registry.RegistryStatus{Caches: []registry.RegistryCacheStatus{status}})
		Expect(err).NotTo(HaveOccurred())
		found := map[string]Cache{resourceName(status): {Desired: 1, Replicas: []Replica{{Name: "cache-0", Running: true}}}}
		observed(found, shared, &spans{})(&status, metav1.Now())
		Expect(ready(status)).To(HaveValue(HaveField("Reason", string(reason))))
	},
		Entry("if one worker pool has hosts of others for the upstream", registry.AccessNodes, `{"docker.io":{"hosts":["x"]}}`, readiness.NodesUseUpstream),
		Entry("not if they are for another upstream", registry.AccessNodes, `{"docker.io:5000":{}}`, readiness.Ready),
		Entry("not if the annotation cannot be read", registry.AccessNodes, `[]`, readiness.Ready),
		Entry("not in another mode", registry.AccessPullSecrets, `{"docker.io":{}}`, readiness.Ready),
	)

	It("reports, as ready, that its mode is not in effect yet, after any other problem", func() {
		status := registry.RegistryCacheStatus{Upstream: "docker.io", PendingAccessMode: registry.AccessNodes}
		found := map[string]Cache{resourceName(status): {Desired: 2, Replicas: []Replica{{Name: "cache-0", Running: true}, {Name: "cache-1", Running: true}}}}
		observed(found, nil, &spans{})(&status, metav1.Now())
		Expect(ready(status)).To(HaveValue(And(HaveField("Status", metav1.ConditionTrue), HaveField("Reason", string(readiness.AwaitingNodes)))))

		status.Conditions = nil
		found[resourceName(status)].Replicas[1].Problem = readiness.Problem{Reason: readiness.ReplicaMissing, Message: "Pod cache-1 does not exist."}
		observed(found, nil, &spans{})(&status, metav1.Now())
		Expect(ready(status)).To(HaveValue(HaveField("Reason", string(readiness.Degraded))))
	})
})
