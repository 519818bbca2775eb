// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"time"

	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/larder-project/larder/pkg/apis/registry"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/upstream"
)

var _ = Describe("Volumes", func() {
	newCache := func(host, size string) deployment {
		return deployment{Values: component.Values{Cache: registry.RegistryCache{Upstream: host, Volume: &registry.Volume{Size: new(resource.MustParse(size))}}}}
	}
	requests := func(size string) corev1.VolumeResourceRequirements {
		return corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}}
	}
	meta := func(object client.Object, host, name string) {
		object.SetNamespace(component.Namespace)
		object.SetName(name)
		object.SetLabels(component.Labels(upstream.Upstream(host)))
	}
	newStatefulSet := func(host string) *appsv1.StatefulSet {
		statefulSet := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
			Spec: corev1.PersistentVolumeClaimSpec{Resources: requests("10Gi")},
		}}}}
		statefulSet.Spec.VolumeClaimTemplates[0].Name = component.VolumeClaimTemplate
		meta(statefulSet, host, upstream.Upstream(host).ResourceName())
		return statefulSet
	}
	sizes := func(caches []deployment) []string {
		out := make([]string, 0, len(caches))
		for _, cache := range caches {
			out = append(out, cache.Cache.Volume.Size.String())
		}
		return out
	}

	It("keep the size of the smallest that cannot grow, whatever the reason, while others grow", func(ctx SpecContext) {
		newClaim := func(host string, ordinal int, size string) *corev1.PersistentVolumeClaim {
			claim := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{Resources: requests(size)}}
			claim.Status.Phase = corev1.ClaimBound
			meta(claim, host, component.ClaimName(upstream.Upstream(host).ResourceName(), ordinal))
			return claim
		}
		refusals := map[string]error{
			"cache-volume-registry-docker-io-0": apierrors.NewForbidden(corev1.Resource("persistentvolumeclaims"), "claim", errors.New("exceeded quota")),
			"cache-volume-registry-docker-io-1": apierrors.NewForbidden(corev1.Resource("persistentvolumeclaims"), "claim", errors.New("exceeded quota")),
			"cache-volume-registry-ghcr-io-0":   errors.New("no connection"),
		}
		shoot := fakeclient.NewClientBuilder().WithObjects(
			newClaim("docker.io", 0, "15Gi"), newClaim("docker.io", 1, "10Gi"), newClaim("ghcr.io", 0, "10Gi"), newClaim("quay.io", 0, "10Gi"),
		).WithInterceptorFuncs(interceptor.Funcs{
			Patch: func(ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, options ...client.PatchOption) error {
				if err := refusals[object.GetName()]; err != nil {
					return err
				}
				return c.Patch(ctx, object, patch, options...)
			},
		}).Build()

		wanted := []deployment{newCache("docker.io", "20Gi"), newCache("ghcr.io", "20Gi"), newCache("quay.io", "20Gi")}
		claims := map[string]*corev1.PersistentVolumeClaim{}
		for _, cache := range wanted {
			for ordinal := range component.MaxReplicas {
				name := component.ClaimName(cache.Name(), ordinal)
				var err error
				claims[name], err = readClaim(ctx, shoot, name)
				Expect(err).NotTo(HaveOccurred())
			}
		}
		stuck, problems := expandClaims(ctx, logr.Discard(), shoot, wanted, claims)
		Expect(sizes(complete(wanted, observed{}, stuck, certificates{}))).To(Equal([]string{"10Gi", "10Gi", "20Gi"}))
		Expect(sizes(wanted)).To(Equal([]string{"20Gi", "20Gi", "20Gi"}), "the configuration does not change")
		Expect(problems).To(HaveLen(3))
		Expect(problems[0]).To(MatchError(And(ContainSubstring("cache docker.io: its volume cannot grow from 15Gi to 20Gi"), ContainSubstring("exceeded quota"))))
		Expect(v1beta1helper.ExtractErrorCodes(problems[0])).To(ConsistOf(gardencorev1beta1.ErrorRetryableConfigurationProblem))
		Expect(v1beta1helper.ExtractErrorCodes(problems[2])).To(BeEmpty())
		claim := newClaim("quay.io", 0, "10Gi")
		Expect(shoot.Get(ctx, client.ObjectKeyFromObject(claim), claim)).To(Succeed())
		Expect(claim.Spec.Resources.Requests.Storage().String()).To(Equal("20Gi"))
	})

	It("recreate StatefulSets even if another one cannot be replaced", func(ctx SpecContext) {
		replaced := newStatefulSet("docker.io")
		shoot := fakeclient.NewClientBuilder().WithObjects(replaced, newStatefulSet("quay.io")).WithInterceptorFuncs(interceptor.Funcs{
			Delete: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.DeleteOption) error {
				if object.GetName() == "registry-quay-io" {
					return errors.New("no connection")
				}
				return c.Delete(ctx, object, options...)
			},
		}).Build()
		managedResource := newManagedResource("shoot--dev--example", ManagedResource)
		seed := fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(managedResource).Build()

		err := (&Actuator{Client: seed}).replaceOutgrownStatefulSets(ctx, logr.Discard(), shoot, "shoot--dev--example",
			[]deployment{newCache("docker.io", "20Gi"), newCache("quay.io", "20Gi")})
		Expect(err).To(MatchError(And(ContainSubstring("registry-quay-io"), ContainSubstring("no connection"))))
		Expect(apierrors.IsNotFound(shoot.Get(ctx, client.ObjectKeyFromObject(replaced), replaced))).To(BeTrue())
		Expect(seed.Get(ctx, client.ObjectKeyFromObject(managedResource), managedResource)).To(Succeed())
		Expect(managedResource.Annotations).To(HaveKeyWithValue(v1beta1constants.GardenerOperation, v1beta1constants.GardenerOperationReconcile))
	})

	It("do not wait for the StatefulSet that has already replaced the deleted one", func(ctx SpecContext) {
		replaced := newStatefulSet("docker.io")
		replaced.UID = "old"
		shoot := fakeclient.NewClientBuilder().WithObjects(replaced).WithInterceptorFuncs(interceptor.Funcs{
			Delete: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.DeleteOption) error {
				if err := c.Delete(ctx, object, options...); err != nil {
					return err
				}
				created := newStatefulSet("docker.io")
				created.UID = "new"
				return c.Create(ctx, created)
			},
		}).Build()
		Expect(orphan(ctx, shoot, replaced)).To(Succeed())
	}, SpecTimeout(2*time.Minute))
})
