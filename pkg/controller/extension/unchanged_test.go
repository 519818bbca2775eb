// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package extension

import (
	"context"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

var _ = Describe("A manager that skips unchanged statuses", func() {
	var (
		updates  int
		api      client.Client
		skipping client.Client
		ex       *extensionsv1alpha1.Extension
	)

	BeforeEach(func(ctx SpecContext) {
		updates = 0
		ex = &extensionsv1alpha1.Extension{ObjectMeta: metav1.ObjectMeta{Namespace: "shoot--dev--example", Name: "registry-cache"}}
		ex.Status.Conditions = []gardencorev1beta1.Condition{{Type: "SystemComponentsHealthy", Status: gardencorev1beta1.ConditionTrue, LastUpdateTime: metav1.Now()}}
		api = fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(ex).WithStatusSubresource(ex).
			WithInterceptorFuncs(interceptor.Funcs{
				SubResourceUpdate: func(ctx context.Context, c client.Client, subresource string, object client.Object, options ...client.SubResourceUpdateOption) error {
					updates++
					return c.SubResource(subresource).Update(ctx, object, options...)
				},
			}).Build()
		skipping = SkipUnchanged(managerWith{client: api}).GetClient()
		Expect(skipping.Get(ctx, client.ObjectKeyFromObject(ex), ex)).To(Succeed())
	})

	It("sends no update that changes nothing", func(ctx SpecContext) {
		Expect(skipping.Status().Update(ctx, ex)).To(Succeed())
		Expect(updates).To(BeZero())
	})

	It("sends an update that changes the status", func(ctx SpecContext) {
		ex.Status.Conditions[0].Status = gardencorev1beta1.ConditionFalse
		Expect(skipping.Status().Update(ctx, ex)).To(Succeed())
		Expect(updates).To(Equal(1))
		Expect(api.Get(ctx, client.ObjectKeyFromObject(ex), ex)).To(Succeed())
		Expect(ex.Status.Conditions[0].Status).To(Equal(gardencorev1beta1.ConditionFalse))
	})

	It("leaves an update of another version to the API server", func(ctx SpecContext) {
		newer := ex.DeepCopy()
		newer.Labels = map[string]string{"changed": "true"}
		Expect(api.Update(ctx, newer)).To(Succeed())
		Expect(apierrors.IsConflict(skipping.Status().Update(ctx, ex))).To(BeTrue())
		Expect(updates).To(Equal(1))
	})
})

type managerWith struct {
	manager.Manager

	client client.Client
}

func (m managerWith) GetClient() client.Client { return m.client }
