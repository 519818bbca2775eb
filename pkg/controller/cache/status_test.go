// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"net"
	"time"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	component "github.com/larder-project/larder/pkg/component/cache"
)

var _ = Describe("Provider status", func() {
	var (
		writes   int
		actuator *Actuator
		ex       *extensionsv1alpha1.Extension
		caches   []deployment
	)

	BeforeEach(func() {
		writes = 0
		codec, err := codec.New()
		Expect(err).NotTo(HaveOccurred())
		ex = &extensionsv1alpha1.Extension{ObjectMeta: metav1.ObjectMeta{Namespace: "shoot--dev--example", Name: "registry-cache"}}
		seed := fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(ex).WithStatusSubresource(ex).WithInterceptorFuncs(interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, subresource string, object client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
				writes++
				return c.SubResource(subresource).Patch(ctx, object, patch, options...)
			},
		}).Build()
		actuator = &Actuator{Client: seed, Codec: codec, Clock: testclock.NewFakeClock(time.Unix(1, 0))}
		caches = []deployment{{Values: component.Values{Cache: registry.RegistryCache{
			Upstream: "docker.io", RemoteURL: new("https://registry-1.docker.io"), HTTP: &registry.HTTP{TLS: new(false)},
		}}}}
	})

	update := func(ctx context.Context) *registry.RegistryStatus {
		GinkgoHelper()
		Expect(actuator.updateStatus(ctx, ex, outcome{caches: caches, addresses: map[string]net.IP{"registry-docker-io": net.ParseIP("10.0.0.1")}})).To(Succeed())
		Expect(actuator.Client.Get(ctx, client.ObjectKeyFromObject(ex), ex)).To(Succeed())
		status, err := actuator.Codec.DecodeStatus(ex.Status.ProviderStatus)
		Expect(err).NotTo(HaveOccurred())
		return status
	}

	It("is not written if nothing has changed", func(ctx SpecContext) {
		Expect(update(ctx).Caches).To(ConsistOf(HaveField("Endpoint", "http://10.0.0.1:5000")))
		update(ctx)
		Expect(writes).To(Equal(1))
		caches[0].Cache.RemoteURL = new("https://mirror.example.com")
		Expect(update(ctx).Caches).To(ConsistOf(HaveField("RemoteURL", "https://mirror.example.com")))
		Expect(writes).To(Equal(2))
	})

	It("keeps the conditions of a cache", func(ctx SpecContext) {
		status := update(ctx)
		condition := metav1.Condition{Type: registry.ConditionReady, Status: metav1.ConditionTrue, Reason: "Ready", LastTransitionTime: metav1.NewTime(time.Unix(2, 0))}
		status.Caches[0].Conditions = []metav1.Condition{condition}
		encoded, err := actuator.Codec.EncodeStatus(status)
		Expect(err).NotTo(HaveOccurred())
		ex.Status.ProviderStatus = encoded
		Expect(actuator.Client.Status().Update(ctx, ex)).To(Succeed())

		caches[0].Cache.RemoteURL = new("https://mirror.example.com")
		other := caches[0]
		other.Cache.Upstream = "quay.io"
		caches = append(caches, other)
		Expect(actuator.updateStatus(ctx, ex, outcome{caches: caches, addresses: map[string]net.IP{"registry-docker-io": net.ParseIP("10.0.0.1"), "registry-quay-io": net.ParseIP("10.0.0.2")}})).To(Succeed())
		status, err = actuator.Codec.DecodeStatus(ex.Status.ProviderStatus)
		Expect(err).NotTo(HaveOccurred())
		Expect(status.Caches[0].Conditions).To(ConsistOf(BeComparableTo(condition)))
		Expect(status.Caches[1].Conditions).To(BeEmpty())
	})

	It("has the access mode of a cache that stays as it is, not the configured one", func(ctx SpecContext) {
		caches[0].Cache.Access = &registry.Access{Mode: registry.AccessPullSecrets}
		caches[0].Cache.Accounts = []registry.Account{{Name: "builder"}}
		caches[0].Deployed = []client.Object{}
		Expect(update(ctx).Caches).To(ConsistOf(And(HaveField("AccessMode", BeEmpty()), HaveField("Accounts", BeEmpty()))))
	})

	It("has the access mode and the client certificate of the nodes while a cache is only for nodes", func(ctx SpecContext) {
		caches[0].Cache.Access = &registry.Access{Mode: registry.AccessNodes}
		addresses := map[string]net.IP{"registry-docker-io": net.ParseIP("10.0.0.1")}
		Expect(actuator.updateStatus(ctx, ex, outcome{caches: caches, addresses: addresses, certificates: certificates{nodeName: new("registry-cache-node-1")}})).To(Succeed())
		status, err := actuator.Codec.DecodeStatus(ex.Status.ProviderStatus)
		Expect(err).NotTo(HaveOccurred())
		Expect(status.NodeCertificateSecretName).To(HaveValue(Equal("registry-cache-node-1")))
		Expect(status.Caches[0].AccessMode).To(Equal(registry.AccessNodes))

		caches[0].Cache.Access = nil
		status = update(ctx)
		Expect(status.NodeCertificateSecretName).To(BeNil())
		Expect(status.Caches[0].AccessMode).To(BeEmpty())
	})
})
