// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"time"

	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/larder-project/larder/pkg/apis/registry"
	component "github.com/larder-project/larder/pkg/component/cache"
)

var _ = Describe("The replacement of StatefulSets", func() {
	caches := []deployment{{Values: component.Values{Cache: registry.RegistryCache{Upstream: "docker.io"}}}}
	newStatefulSet := func(policy appsv1.PodManagementPolicyType) *appsv1.StatefulSet {
		return &appsv1.StatefulSet{
			ObjectMeta: metav1.ObjectMeta{Namespace: component.Namespace, Name: caches[0].Name(), Annotations: map[string]string{"kept": "true"}},
			Spec:       appsv1.StatefulSetSpec{PodManagementPolicy: policy},
		}
	}
	annotations := func(ctx context.Context, shoot client.Client) map[string]string {
		GinkgoHelper()
		statefulSet := &appsv1.StatefulSet{}
		Expect(shoot.Get(ctx, client.ObjectKey{Namespace: component.Namespace, Name: caches[0].Name()}, statefulSet)).To(Succeed())
		return statefulSet.Annotations
	}
	allowed := Equal(map[string]string{
		"kept":                                  "true",
		resourcesv1alpha1.DeleteOnInvalidUpdate: "true",
		resourcesv1alpha1.DeletionPropagationOnInvalidUpdate: "Orphan",
	})

	It("is allowed for the StatefulSet of another implementation", func(ctx SpecContext) {
		shoot := fakeclient.NewClientBuilder().WithObjects(newStatefulSet(appsv1.OrderedReadyPodManagement)).Build()
		allowReplacement(ctx, logr.Discard(), shoot, caches)
		Expect(annotations(ctx, shoot)).To(allowed)
	})

	It("is allowed once, without further writes", func(ctx SpecContext) {
		writes := 0
		shoot := fakeclient.NewClientBuilder().WithObjects(newStatefulSet(component.PodManagementPolicy)).WithInterceptorFuncs(interceptor.Funcs{
			Patch: func(ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, options ...client.PatchOption) error {
				writes++
				return c.Patch(ctx, object, patch, options...)
			},
		}).Build()
		for range 3 {
			allowReplacement(ctx, logr.Discard(), shoot, caches)
			allowReplacementOfNew(ctx, logr.Discard(), shoot, caches)
		}
		Expect(writes).To(Equal(1))
	})

	It("is awaited for a StatefulSet that is still to be created", func(ctx SpecContext) {
		missed := false
		shoot := fakeclient.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
				err := c.Get(ctx, key, object, options...)
				if !missed {
					missed = true
					Expect(c.Create(ctx, newStatefulSet(component.PodManagementPolicy))).To(Succeed())
				}
				return err
			},
		}).Build()
		allowReplacementOfNew(ctx, logr.Discard(), shoot, caches)
		Expect(annotations(ctx, shoot)).To(allowed)
	})

	It("does not hold up a reconciliation", func(ctx SpecContext) {
		shoot := fakeclient.NewClientBuilder().WithObjects(newStatefulSet(appsv1.OrderedReadyPodManagement)).WithInterceptorFuncs(interceptor.Funcs{
			Patch: func(_ context.Context, _ client.WithWatch, _ client.Object, _ client.Patch, _ ...client.PatchOption) error {
				return errors.New("denied by an admission webhook")
			},
		}).Build()
		allowReplacement(ctx, logr.Discard(), shoot, caches)
		allowReplacementOfNew(ctx, logr.Discard(), shoot, caches)
	}, SpecTimeout(time.Minute))
})
