// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/larder-project/larder/pkg/apis/registry"
	component "github.com/larder-project/larder/pkg/component/cache"
)

var _ = Describe("The access mode Nodes", func() {
	const namespace = "shoot--dev--example"
	created := time.Date(2026, time.January, 1, 12, 0, 0, 0, time.UTC)
	succeeded := func(at time.Time) *gardencorev1beta1.LastOperation {
		return &gardencorev1beta1.LastOperation{
			Type: gardencorev1beta1.LastOperationTypeReconcile, State: gardencorev1beta1.LastOperationStateSucceeded, LastUpdateTime: metav1.NewTime(at),
		}
	}

	everyone, forNodes := &registry.Access{Mode: registry.AccessCluster}, &registry.Access{Mode: registry.AccessNodes}
	forPods := &registry.Access{
		Mode: registry.AccessPullSecrets, GrantDuration: &metav1.Duration{Duration: 30 * time.Second}, OutageGrantDuration: &metav1.Duration{},
	}

	DescribeTable("takes effect when all nodes have their certificate", func(deployed *registry.Access, onNodes bool, expected *registry.Access, accounts int) {
		cache := deployment{Values: component.Values{Cache: registry.RegistryCache{
			Upstream: "docker.io", HTTP: &registry.HTTP{TLS: new(true)},
			Access: &registry.Access{Mode: registry.AccessNodes}, Accounts: []registry.Account{{Name: "builder"}},
		}}}
		found := observed{access: map[string]registry.Access{}}
		if deployed != nil {
			found.access[cache.Name()] = *deployed
		}
		issued := certificates{nodeName: new("node"), nodeCreated: created, onNodes: onNodes}
		completed := complete([]deployment{cache}, found, nil, issued)
		Expect(completed[0].Cache.Access).To(Equal(expected))
		mode := completed[0].accessMode()
		Expect(completed[0].accounts()).To(HaveLen(accounts))
		Expect(completed[0].Access != nil).To(Equal(mode != registry.AccessCluster), "its Secret has a token")
		Expect(cache.Cache.AccessMode()).To(Equal(registry.AccessNodes), "the configuration does not change")
		value := notAwaitingNodes
		if mode != registry.AccessNodes {
			value = strconv.FormatInt(created.Unix(), 10)
		}
		Expect(awaitingNodes(completed, found, issued)).To(Equal(map[string]string{awaitingNodesLabel: value}))
	},
		Entry("of a new cache", nil, false, forNodes, 1),
		Entry("of a cache that has served everyone", everyone, false, nil, 0),
		Entry("of a cache that has served pull secrets, with its durations", forPods, false, forPods, 1),
		Entry("of a cache that has served everyone, later", everyone, true, forNodes, 1),
		Entry("of a cache that has served pull secrets, later", forPods, true, forNodes, 1),
		Entry("of a cache that has served nodes", forNodes, false, forNodes, 1),
	)

	It("leaves no label where there are no certificates of nodes", func() {
		Expect(awaitingNodes([]deployment{{}}, observed{}, certificates{})).To(BeNil())
	})

	DescribeTable("knows that nodes have a certificate", func(last *gardencorev1beta1.LastOperation, now time.Time, expected bool) {
		shoot := &gardencorev1beta1.Shoot{Status: gardencorev1beta1.ShootStatus{LastOperation: last}}
		Expect(nodesHaveCertificate(shoot, created, now)).To(Equal(expected))
		shoot.Status.Credentials = &gardencorev1beta1.ShootCredentials{Rotation: &gardencorev1beta1.ShootCredentialsRotation{
			CertificateAuthorities: &gardencorev1beta1.CARotation{Phase: gardencorev1beta1.RotationWaitingForWorkersRollout},
		}}
		Expect(nodesHaveCertificate(shoot, created, now)).To(Equal(expected && last != nil), "nodes that wait for their rollout get files")
	},
		Entry("not without an operation", nil, created.Add(time.Hour), false),
		Entry("not after an earlier operation", succeeded(created.Add(-time.Second)), created.Add(time.Hour), false),
		Entry("after a later operation", succeeded(created), created, true),
		Entry("after a week", nil, created.Add(caOverlap), true),
	)

	DescribeTable("leaves nodes their certificate when it ends", func(ctx SpecContext, status providerStatus, deployedFor time.Duration, progressing gardencorev1beta1.ConditionStatus, expected bool) {
		clock := testclock.NewFakeClock(created)
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "objects", CreationTimestamp: metav1.NewTime(created)}}
		managedResource := newManagedResource(namespace, ManagedResource)
		managedResource.Spec.SecretRefs = []corev1.LocalObjectReference{{Name: secret.Name}}
		managedResource.Status.Conditions = []gardencorev1beta1.Condition{
			{Type: resourcesv1alpha1.ResourcesApplied, Status: gardencorev1beta1.ConditionTrue},
			{Type: resourcesv1alpha1.ResourcesProgressing, Status: progressing},
		}
		actuator := &Actuator{Clock: clock, Client: fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(managedResource, secret).Build()}
		clock.Step(deployedFor)
		Expect(actuator.keepsNodeCertificate(ctx, namespace, observed{status: status})).To(Equal(expected))
	},
		Entry("not if they have none", providerStatus{}, time.Minute, gardencorev1beta1.ConditionFalse, false),
		Entry("while a cache may ask for it", providerStatus{nodeCertificate: true, caches: map[string]registry.RegistryCacheStatus{"docker.io": {AccessMode: registry.AccessNodes}}}, time.Hour, gardencorev1beta1.ConditionFalse, true),
		Entry("while replicas are replaced", providerStatus{nodeCertificate: true, caches: map[string]registry.RegistryCacheStatus{"docker.io": {}}}, time.Minute, gardencorev1beta1.ConditionFalse, true),
		Entry("while a replica cannot be replaced", providerStatus{nodeCertificate: true, caches: map[string]registry.RegistryCacheStatus{"docker.io": {}}}, time.Hour, gardencorev1beta1.ConditionTrue, true),
		Entry("not later", providerStatus{nodeCertificate: true, caches: map[string]registry.RegistryCacheStatus{"docker.io": {}}}, certificatePropagation, gardencorev1beta1.ConditionFalse, false),
	)

	It("leaves nodes their certificate while the caches are not deployed", func(ctx SpecContext) {
		actuator := &Actuator{Clock: testclock.NewFakeClock(created), Client: fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).Build()}
		Expect(actuator.keepsNodeCertificate(ctx, namespace, observed{status: providerStatus{nodeCertificate: true}})).To(BeTrue())
	})

	It("is requested when all nodes have their certificate", func(ctx SpecContext) {
		managedResource := newManagedResource(namespace, ManagedResource)
		managedResource.Labels = map[string]string{awaitingNodesLabel: strconv.FormatInt(created.Unix(), 10)}
		ex := &extensionsv1alpha1.Extension{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: registry.ExtensionType},
			Status: extensionsv1alpha1.ExtensionStatus{DefaultStatus: extensionsv1alpha1.DefaultStatus{
				LastOperation: &gardencorev1beta1.LastOperation{State: gardencorev1beta1.LastOperationStateSucceeded},
			}},
		}
		seed := fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(managedResource, ex).Build()
		janitor := &Janitor{Client: seed, Clock: testclock.NewFakeClock(created), Log: logr.Discard()}
		isRequested := func(ctx context.Context, last *gardencorev1beta1.LastOperation) bool {
			GinkgoHelper()
			raw, err := json.Marshal(&gardencorev1beta1.Shoot{
				TypeMeta: metav1.TypeMeta{APIVersion: gardencorev1beta1.SchemeGroupVersion.String(), Kind: "Shoot"},
				Status:   gardencorev1beta1.ShootStatus{LastOperation: last},
			})
			Expect(err).NotTo(HaveOccurred())
			cluster := &extensionsv1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
			Expect(client.IgnoreNotFound(seed.Delete(ctx, cluster))).To(Succeed())
			cluster.ResourceVersion = ""
			cluster.Spec = extensionsv1alpha1.ClusterSpec{Shoot: runtime.RawExtension{Raw: raw}, CloudProfile: runtime.RawExtension{Raw: []byte("{}")}}
			Expect(seed.Create(ctx, cluster)).To(Succeed())
			Expect(janitor.restrict(ctx)).To(Succeed())
			Expect(seed.Get(ctx, client.ObjectKeyFromObject(ex), ex)).To(Succeed())
			return ex.Annotations[v1beta1constants.GardenerOperation] == v1beta1constants.GardenerOperationReconcile
		}
		Expect(isRequested(ctx, nil)).To(BeFalse())
		Expect(isRequested(ctx, succeeded(created.Add(-time.Second)))).To(BeFalse())

		managedResource.Labels[awaitingNodesLabel] = notAwaitingNodes
		Expect(seed.Update(ctx, managedResource)).To(Succeed())
		Expect(isRequested(ctx, succeeded(created))).To(BeFalse(), "no cache waits")

		managedResource.Labels[awaitingNodesLabel] = strconv.FormatInt(created.Unix(), 10)
		Expect(seed.Update(ctx, managedResource)).To(Succeed())
		Expect(isRequested(ctx, succeeded(created))).To(BeTrue())
	})
})
