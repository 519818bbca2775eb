// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/controller/cache"
)

// shoot is the representation of a Shoot in a seed, as gardenlet writes it.
type shoot struct {
	namespace string
	object    *gardencorev1beta1.Shoot
}

func newShoot(ctx context.Context) *shoot {
	GinkgoHelper()
	suffix := make([]byte, 4)
	_, err := rand.Read(suffix)
	Expect(err).NotTo(HaveOccurred())
	s := &shoot{
		namespace: "shoot--dev--" + hex.EncodeToString(suffix),
		object: &gardencorev1beta1.Shoot{
			TypeMeta:   metav1.TypeMeta{APIVersion: gardencorev1beta1.SchemeGroupVersion.String(), Kind: "Shoot"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "garden-dev", Name: "example"},
			Spec:       gardencorev1beta1.ShootSpec{Kubernetes: gardencorev1beta1.Kubernetes{Version: "1.36.3"}},
		},
	}
	Expect(testClient.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:   s.namespace,
		Labels: map[string]string{v1beta1constants.GardenRole: v1beta1constants.GardenRoleShoot},
	}})).To(Succeed())
	Expect(testClient.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1beta1constants.SecretNameGardener},
		Data:       map[string][]byte{"kubeconfig": kubeconfig},
	})).To(Succeed())
	s.update(ctx, func(*gardencorev1beta1.Shoot) {})
	DeferCleanup(s.cleanUp)
	return s
}

// update changes the Shoot in the Cluster.
func (s *shoot) update(ctx context.Context, change func(*gardencorev1beta1.Shoot)) {
	GinkgoHelper()
	change(s.object)
	data, err := json.Marshal(s.object)
	Expect(err).NotTo(HaveOccurred())
	cluster := &extensionsv1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}
	_, err = controllerutil.CreateOrUpdate(ctx, testClient, cluster, func() error {
		cluster.Spec.Shoot = runtime.RawExtension{Raw: data}
		cluster.Spec.CloudProfile = runtime.RawExtension{Raw: []byte(`{"apiVersion":"core.gardener.cloud/v1beta1","kind":"CloudProfile"}`)}
		return nil
	})
	Expect(err).NotTo(HaveOccurred())
}

// refer adds an entry to spec.resources and, unless the data is nil, gardenlet's copy of its Secret.
func (s *shoot) refer(ctx context.Context, entry, secretName string, data map[string]string, mutable ...bool) {
	GinkgoHelper()
	s.update(ctx, func(shoot *gardencorev1beta1.Shoot) {
		shoot.Spec.Resources = append(shoot.Spec.Resources, gardencorev1beta1.NamedResourceReference{
			Name:        entry,
			ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "Secret", Name: secretName},
		})
	})
	if data != nil {
		s.createSecret(ctx, secretName, data, len(mutable) == 0)
	}
}

func (s *shoot) createSecret(ctx context.Context, name string, data map[string]string, immutable bool) {
	GinkgoHelper()
	Expect(testClient.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1beta1constants.ReferencedResourcesPrefix + name},
		Type:       corev1.SecretTypeOpaque,
		Immutable:  new(immutable),
		StringData: data,
	})).To(Succeed())
}

func (s *shoot) extension() *extensionsv1alpha1.Extension {
	return &extensionsv1alpha1.Extension{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: registry.ExtensionType}}
}

// operate requests an operation, like gardenlet, and returns the Extension once the operation has reached the given
// state. Timestamps in a status are too coarse to distinguish it from an earlier operation, so each has a generation of
// its own, through a field that the extension does not know.
func (s *shoot) operate(ctx context.Context, operation string, state gardencorev1beta1.LastOperationState, caches ...v1alpha3.RegistryCache) *extensionsv1alpha1.Extension {
	GinkgoHelper()
	data, err := json.Marshal(struct {
		v1alpha3.RegistryConfig
		Operation string `json:"operation"`
	}{v1alpha3.RegistryConfig{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha3.SchemeGroupVersion.String(), Kind: "RegistryConfig"},
		Caches:   caches,
	}, rand.Text()})
	Expect(err).NotTo(HaveOccurred())
	extension := s.extension()
	Eventually(ctx, func() error {
		_, err := controllerutil.CreateOrUpdate(ctx, testClient, extension, func() error {
			metav1.SetMetaDataAnnotation(&extension.ObjectMeta, v1beta1constants.GardenerOperation, operation)
			extension.Spec.Type = registry.ExtensionType
			extension.Spec.ProviderConfig = &runtime.RawExtension{Raw: data}
			return nil
		})
		return err
	}).Should(Succeed())
	Eventually(ctx, func(g Gomega) {
		g.Expect(get(extension)(ctx)).To(Succeed())
		g.Expect(extension.Status.LastOperation).To(HaveValue(HaveField("State", state)))
		g.Expect(extension.Status.ObservedGeneration).To(Equal(extension.Generation))
		g.Expect(extension.Annotations).NotTo(HaveKey(v1beta1constants.GardenerOperation))
	}).Should(Succeed())
	return extension
}

func (s *shoot) reconcile(ctx context.Context, caches ...v1alpha3.RegistryCache) *extensionsv1alpha1.Extension {
	GinkgoHelper()
	return s.operate(ctx, v1beta1constants.GardenerOperationReconcile, gardencorev1beta1.LastOperationStateSucceeded, caches...)
}

func (s *shoot) reconcileWithError(ctx context.Context, caches ...v1alpha3.RegistryCache) *gardencorev1beta1.LastError {
	GinkgoHelper()
	extension := s.operate(ctx, v1beta1constants.GardenerOperationReconcile, gardencorev1beta1.LastOperationStateError, caches...)
	Expect(extension.Status.LastError).NotTo(BeNil())
	return extension.Status.LastError
}

// succeed records a successful reconciliation in the Cluster, like gardenlet after it has updated all nodes. Its time
// is a second later than that of the extension's last change.
func (s *shoot) succeed(ctx context.Context) {
	GinkgoHelper()
	s.update(ctx, func(shoot *gardencorev1beta1.Shoot) {
		shoot.Status.LastOperation = &gardencorev1beta1.LastOperation{
			Type:           gardencorev1beta1.LastOperationTypeReconcile,
			State:          gardencorev1beta1.LastOperationStateSucceeded,
			LastUpdateTime: metav1.NewTime(time.Now().Add(time.Second)),
		}
	})
}

func (s *shoot) delete(ctx context.Context) {
	GinkgoHelper()
	Expect(testClient.Delete(ctx, s.extension())).To(Succeed())
}

func (s *shoot) cleanUp(ctx context.Context) {
	s.update(ctx, func(shoot *gardencorev1beta1.Shoot) {
		shoot.Spec.Hibernation = nil
		shoot.Status.IsHibernated = false
		shoot.DeletionTimestamp = new(metav1.Now()) // This removes everything, including Services.
	})
	Expect(client.IgnoreNotFound(testClient.Delete(ctx, s.extension()))).To(Succeed())
	Eventually(ctx, get(s.extension())).Should(beNotFound())
	Eventually(ctx, get(s.managedResource(cache.ManagedResourceServices))).Should(beNotFound())
	Expect(testClient.Delete(ctx, &extensionsv1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}})).To(Succeed())
	Expect(testClient.DeleteAllOf(ctx, &corev1.PersistentVolumeClaim{}, client.InNamespace(component.Namespace))).To(Succeed())
}

func (s *shoot) managedResource(name string) *resourcesv1alpha1.ManagedResource {
	return &resourcesv1alpha1.ManagedResource{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
}

func statusOf(extension *extensionsv1alpha1.Extension) *registry.RegistryStatus {
	GinkgoHelper()
	decoder, err := codec.New()
	Expect(err).NotTo(HaveOccurred())
	status, err := decoder.DecodeStatus(extension.Status.ProviderStatus)
	Expect(err).NotTo(HaveOccurred())
	return status
}

// get returns a function that reads the object.
func get(object client.Object) func(context.Context) error {
	return func(ctx context.Context) error {
		return testClient.Get(ctx, client.ObjectKeyFromObject(object), object)
	}
}

func beNotFound() OmegaMatcher {
	return WithTransform(apierrors.IsNotFound, BeTrue())
}
