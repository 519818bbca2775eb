// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/larder-project/larder/imagevector"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/controller/credentialstate"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/problem"
)

// The owner is the administrator of the Shoot, and controls all its objects.
var _ = Describe("A hostile owner", func() {
	const namespace = "shoot--dev--example"

	newCodec := func() *codec.Codec {
		GinkgoHelper()
		codec, err := codec.New()
		Expect(err).NotTo(HaveOccurred())
		return codec
	}
	newCache := func(host string) deployment {
		return deployment{Values: component.Values{
			Cache: registry.RegistryCache{
				Upstream:         host,
				HTTP:             &registry.HTTP{TLS: new(false)},
				Volume:           &registry.Volume{Size: new(resource.MustParse("10Gi"))},
				HighAvailability: &registry.HighAvailability{},
			},
			Credential: &credentials.Named{Name: "v1", Material: credentials.Static(credentials.Credential{Username: "robot", Password: "example"})},
		}}
	}

	It("cannot make the controller read more objects than the caches have", func(ctx SpecContext) {
		// counts are the objects that are read, by kind. There are others with the labels of caches.
		counts := map[string]int{}
		builder := fakeclient.NewClientBuilder()
		for i := range 300 {
			labels := component.Labels("docker.io")
			meta := func(name string) metav1.ObjectMeta {
				return metav1.ObjectMeta{Namespace: component.Namespace, Name: fmt.Sprintf("%s-%d", name, i), Labels: labels}
			}
			builder.WithObjects(&corev1.Secret{ObjectMeta: meta("secret")}, &corev1.Service{ObjectMeta: meta("service")}, &corev1.PersistentVolumeClaim{ObjectMeta: meta("claim")})
		}
		shoot := builder.WithObjects(&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: component.Namespace, Name: "registry-docker-io", Labels: component.Labels("docker.io")},
			Spec:       corev1.ServiceSpec{ClusterIP: "10.0.0.1"},
		}).WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
				counts[fmt.Sprintf("%T", object)]++
				return c.Get(ctx, key, object, options...)
			},
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
				err := c.List(ctx, list, options...)
				switch items := list.(type) {
				case *corev1.SecretList:
					counts["*v1.Secret"] += len(items.Items)
				case *corev1.ServiceList:
					counts["*v1.Service"] += len(items.Items)
				case *corev1.PersistentVolumeClaimList:
					counts["*v1.PersistentVolumeClaim"] += len(items.Items)
				}
				return err
			},
		}).Build()
		ex := &extensionsv1alpha1.Extension{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "registry-cache"}}
		seed := fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(ex).Build()
		actuator := &Actuator{Client: seed, Codec: newCodec()}
		caches := []deployment{newCache("docker.io")}

		found, err := actuator.observe(ctx, shoot, ex, caches)
		Expect(err).NotTo(HaveOccurred())
		_, problems := expandClaims(ctx, logr.Discard(), shoot, caches, found.claims)
		Expect(problems).To(BeEmpty())
		Expect(actuator.replaceOutgrownStatefulSets(ctx, logr.Discard(), shoot, namespace, caches)).To(Succeed())
		Expect(deleteSurplusClaims(ctx, logr.Discard(), shoot, caches, found.claims)).To(Succeed())
		Expect(counts).To(Equal(map[string]int{
			"*v1.Service": 1, "*v1.Secret": 1, "*v1.StatefulSet": 1,
			"*v1.PersistentVolumeClaim": component.MaxReplicas,
		}))
	})

	It("cannot make the controller compare sizes that take hours to compare", func(ctx SpecContext) {
		cache := newCache("docker.io")
		cache.Cache.Volume.Size = new(resource.MustParse("1.5Gi"))
		claim := &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: component.Namespace, Name: component.ClaimName(cache.Name(), 0), Labels: component.Labels("docker.io")},
			Spec: corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1e999999999")},
			}},
			Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound},
		}
		shoot := fakeclient.NewClientBuilder().WithObjects(claim).Build()
		claims := map[string]*corev1.PersistentVolumeClaim{claim.Name: claim}
		_, problems := expandClaims(ctx, logr.Discard(), shoot, []deployment{cache}, claims)
		Expect(problems).To(BeEmpty())
	}, SpecTimeout(time.Minute))

	It("cannot inject names and credentials that were never deployed", func() {
		wanted := credentials.Named{Name: "v2", Material: credentials.Static(credentials.Credential{Username: "robot", Password: "example"})}
		long, heavy := wanted, wanted
		long.Name = strings.Repeat("x", 254)
		heavy.Name, heavy.Material.Credential.Password = "v1", strings.Repeat("x", 1<<20)
		Expect(parseDeployed("", credentials.Files("", long, &wanted))).To(BeZero())
		Expect(parseDeployed("", credentials.Files("", heavy, nil))).To(BeZero())
		Expect(parseDeployed("", credentials.Files("", wanted, &long))).To(Equal(credentialstate.Deployed{Wanted: &wanted}))
	})

	Describe("whose Extension failed", func() {
		var (
			actuator *Actuator
			ex       *extensionsv1alpha1.Extension
		)

		BeforeEach(func() {
			// No ManagedResource ever becomes healthy here.
			images, err := imagevector.ImageVector()
			Expect(err).NotTo(HaveOccurred())
			ex = &extensionsv1alpha1.Extension{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "registry-cache"},
				Spec: extensionsv1alpha1.ExtensionSpec{DefaultSpec: extensionsv1alpha1.DefaultSpec{ProviderConfig: &runtime.RawExtension{
					Raw: []byte(`{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[{"upstream":"docker.io"}]}`),
				}}},
				Status: extensionsv1alpha1.ExtensionStatus{DefaultStatus: extensionsv1alpha1.DefaultStatus{LastError: &gardencorev1beta1.LastError{}}},
			}
			cluster := &extensionsv1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: namespace}, Spec: extensionsv1alpha1.ClusterSpec{
				Shoot:        runtime.RawExtension{Raw: []byte(`{"apiVersion":"core.gardener.cloud/v1beta1","kind":"Shoot","spec":{"kubernetes":{"version":"1.36.3"}}}`)},
				CloudProfile: runtime.RawExtension{Raw: []byte("{}")},
			}}
			managedResource := newManagedResource(namespace, ManagedResource)
			managedResource.Finalizers = []string{"example.com/held"}
			actuator = &Actuator{
				Client:       fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(cluster, managedResource).Build(),
				Codec:        newCodec(),
				Images:       images,
				Clock:        testclock.NewFakeClock(time.Now()),
				RetryTimeout: 100 * time.Millisecond,
			}
		})

		// A first attempt waits for two minutes.
		It("cannot block the controller for long when it is reconciled again", func(ctx SpecContext) {
			Expect(actuator.Reconcile(ctx, logr.Discard(), ex)).To(MatchError(ContainSubstring("ManagedResource extension-registry-cache-services")))
		}, SpecTimeout(time.Minute))

		It("cannot block the controller for long when it is deleted again", func(ctx SpecContext) {
			Expect(actuator.Delete(ctx, logr.Discard(), ex)).To(MatchError(ContainSubstring("ManagedResource extension-registry-cache")))
		}, SpecTimeout(time.Minute))
	})

	Describe("with many caches and one Secret", func() {
		const number = 70
		var (
			actuator *Actuator
			ex       *extensionsv1alpha1.Extension
			cluster  *extensionscontroller.Cluster
			reads    map[string]int
		)

		setUp := func(secret *corev1.Secret) {
			GinkgoHelper()
			images, err := imagevector.ImageVector()
			Expect(err).NotTo(HaveOccurred())
			reads = map[string]int{}
			seed := fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(secret).WithInterceptorFuncs(interceptor.Funcs{
				Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
					reads[fmt.Sprintf("%T %s", object, key.Name)]++
					return c.Get(ctx, key, object, options...)
				},
			}).Build()
			actuator = &Actuator{Client: seed, Codec: newCodec(), Images: images, CopyTimeout: time.Minute}
			var caches []string
			for i := range number {
				caches = append(caches, fmt.Sprintf(`{"upstream":"registry-%d.example.com","secretReferenceName":"upstream"}`, i))
			}
			ex = &extensionsv1alpha1.Extension{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "registry-cache"},
				Spec: extensionsv1alpha1.ExtensionSpec{DefaultSpec: extensionsv1alpha1.DefaultSpec{ProviderConfig: &runtime.RawExtension{
					Raw: []byte(`{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[` + strings.Join(caches, ",") + `]}`),
				}}},
			}
			cluster = &extensionscontroller.Cluster{Shoot: &gardencorev1beta1.Shoot{Spec: gardencorev1beta1.ShootSpec{
				Kubernetes: gardencorev1beta1.Kubernetes{Version: "1.36.3"},
				Resources: []gardencorev1beta1.NamedResourceReference{{
					Name:        "upstream",
					ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "Secret", Name: "v1"},
				}},
			}}}
		}
		newSecret := func(password string) *corev1.Secret {
			return &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "ref-v1"},
				Type:       corev1.SecretTypeOpaque,
				Immutable:  new(true),
				Data:       map[string][]byte{"username": []byte("robot"), "password": []byte(password)},
			}
		}

		It("makes the controller read it once", func(ctx SpecContext) {
			setUp(newSecret("example"))
			caches, problems, err := actuator.readCaches(ctx, ex, cluster)
			Expect(err).NotTo(HaveOccurred())
			Expect(problems).To(BeEmpty())
			Expect(caches).To(HaveLen(number))
			Expect(reads).To(Equal(map[string]int{"*v1.PartialObjectMetadata ref-v1": 1, "*v1.Secret ref-v1": 1}))
		})

		It("makes the controller read the deployed objects once if it is unusable", func(ctx SpecContext) {
			setUp(newSecret(strings.Repeat("x", 1<<19)))
			_, problems, err := actuator.readCaches(ctx, ex, cluster)
			Expect(err).NotTo(HaveOccurred())
			Expect(problems).To(HaveLen(number))
			Expect(problems).To(HaveEach(MatchError(And(ContainSubstring("more than the maximum of 65536"), ContainSubstring(`Secret "v1"`)))))
			Expect(reads).To(HaveKeyWithValue("*v1alpha1.ManagedResource extension-registry-cache", 1))
			Expect(reads).To(HaveKeyWithValue("*v1.Secret ref-v1", 1))
		})
	})

	It("gets the start of an error that is too long", func(ctx SpecContext) {
		seed := fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithInterceptorFuncs(interceptor.Funcs{
			Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
				return errors.New(strings.Repeat("x", 1<<20))
			},
		}).Build()
		err := (&Actuator{Client: seed}).Reconcile(ctx, logr.Discard(), &extensionsv1alpha1.Extension{})
		Expect(err).To(MatchError(ContainSubstring("read Cluster")))
		Expect(len(err.Error())).To(BeNumerically("<=", problem.MaxError))
	})
})
