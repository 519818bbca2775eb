// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	reconcilerutils "github.com/gardener/gardener/pkg/controllerutils/reconciler"
	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/larder-project/larder/imagevector"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
)

var _ = Describe("Actuator", func() {
	It("looks again soon for a Secret whose copy is not there yet", func(ctx context.Context) {
		shoot := &gardencorev1beta1.Shoot{
			TypeMeta: metav1.TypeMeta{APIVersion: gardencorev1beta1.SchemeGroupVersion.String(), Kind: "Shoot"},
			Spec: gardencorev1beta1.ShootSpec{
				Kubernetes: gardencorev1beta1.Kubernetes{Version: "1.36.3"},
				Resources: []gardencorev1beta1.NamedResourceReference{{
					Name:        "credentials",
					ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "Secret", Name: "v2"},
				}},
			},
		}
		cluster := &extensionsv1alpha1.Cluster{
			ObjectMeta: metav1.ObjectMeta{Name: "shoot--foo--bar"},
			Spec:       extensionsv1alpha1.ClusterSpec{Shoot: runtime.RawExtension{Object: shoot}},
		}
		extension := &extensionsv1alpha1.Extension{
			ObjectMeta: metav1.ObjectMeta{Name: "registry-cache", Namespace: cluster.Name},
			Spec: extensionsv1alpha1.ExtensionSpec{DefaultSpec: extensionsv1alpha1.DefaultSpec{ProviderConfig: &runtime.RawExtension{Raw: []byte(`{
				"apiVersion": "registry.extensions.gardener.cloud/v1alpha3", "kind": "RegistryConfig",
				"caches": [{"upstream": "r.example", "secretReferenceName": "credentials"}]}`)}}},
		}

		configs, err := codec.New()
		Expect(err).NotTo(HaveOccurred())
		images, err := imagevector.ImageVector()
		Expect(err).NotTo(HaveOccurred())
		actuator := &Actuator{
			Client: fake.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(cluster).Build(),
			Codec:  configs,
			Images: images,
		}

		err = actuator.Reconcile(ctx, logr.Discard(), extension)
		Expect(err).To(BeAssignableToTypeOf(&reconcilerutils.RequeueAfterError{}))
		Expect(err).To(MatchError(ContainSubstring(`cache r.example: the Secret "v2" that spec.resources entry "credentials" refers to is missing`)))
	})
})
