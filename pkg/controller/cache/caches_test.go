// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"time"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/larder-project/larder/imagevector"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
)

var _ = Describe("A referenced Secret without a copy in the seed", func() {
	var (
		actuator *Actuator
		copied   *corev1.Secret
		ex       = &extensionsv1alpha1.Extension{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shoot--dev--example", Name: "registry-cache"},
			Spec: extensionsv1alpha1.ExtensionSpec{DefaultSpec: extensionsv1alpha1.DefaultSpec{
				Type: "registry-cache",
				ProviderConfig: &runtime.RawExtension{Raw: []byte(`{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig",
					"caches":[{"upstream":"docker.io","secretReferenceName":"docker-hub"}]}`)},
			}},
		}
		cluster = &extensionscontroller.Cluster{Shoot: &gardencorev1beta1.Shoot{Spec: gardencorev1beta1.ShootSpec{
			Kubernetes: gardencorev1beta1.Kubernetes{Version: "1.36.3"},
			Resources: []gardencorev1beta1.NamedResourceReference{{
				Name:        "docker-hub",
				ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "Secret", Name: "v2"},
			}},
		}}}
	)

	BeforeEach(func() {
		codec, err := codec.New()
		Expect(err).NotTo(HaveOccurred())
		images, err := imagevector.ImageVector()
		Expect(err).NotTo(HaveOccurred())
		actuator = &Actuator{Codec: codec, Images: images, CopyTimeout: time.Minute}
		copied = &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: ex.Namespace, Name: "ref-v2"},
			Type:       corev1.SecretTypeOpaque,
			Immutable:  new(true),
			Data:       map[string][]byte{"username": []byte("user"), "password": []byte("example")},
		}
	})

	It("is awaited", func(ctx SpecContext) {
		missed := false
		actuator.Client = fakeclient.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
				err := c.Get(ctx, key, object, options...)
				if !missed {
					missed = true
					Expect(c.Create(ctx, copied)).To(Succeed())
				}
				return err
			},
		}).Build()
		caches, problems, err := actuator.readCaches(ctx, ex, cluster)
		Expect(err).NotTo(HaveOccurred())
		Expect(problems).To(BeEmpty())
		Expect(caches).To(ConsistOf(HaveField("Credential.Material.Credential.Username", "user")))
	})

	It("is a retryable problem after a timeout", func(ctx SpecContext) {
		actuator.Client, actuator.CopyTimeout = fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).Build(), time.Millisecond
		caches, problems, err := actuator.readCaches(ctx, ex, cluster)
		Expect(err).NotTo(HaveOccurred())
		Expect(caches).To(BeEmpty())
		Expect(problems).To(ConsistOf(MatchError(And(
			ContainSubstring("cache docker.io"), ContainSubstring(`Secret "v2"`), ContainSubstring(`entry "docker-hub"`),
			ContainSubstring("not been copied to the seed yet"), ContainSubstring("exists in the namespace of the Shoot")))))
		Expect(v1beta1helper.ExtractErrorCodes(problems[0])).To(ConsistOf(gardencorev1beta1.ErrorRetryableConfigurationProblem))
	})

	It("is no longer awaited once the reconciliation is cancelled", func(ctx SpecContext) {
		ended, end := context.WithCancel(ctx)
		actuator.Client = fakeclient.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
				end()
				return c.Get(ctx, key, object, options...)
			},
		}).Build()
		_, _, err := actuator.readCaches(ended, ex, cluster)
		Expect(err).To(MatchError(context.Canceled))
	})
})

var _ = Describe("A referenced WorkloadIdentity", func() {
	const ecr = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
	var (
		actuator *Actuator
		secret   *corev1.Secret
		ex       = &extensionsv1alpha1.Extension{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shoot--dev--example", Name: "registry-cache"},
			Spec: extensionsv1alpha1.ExtensionSpec{DefaultSpec: extensionsv1alpha1.DefaultSpec{
				Type: "registry-cache",
				ProviderConfig: &runtime.RawExtension{Raw: []byte(`{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig",
					"caches":[{"upstream":"` + ecr + `","secretReferenceName":"ecr"}]}`)},
			}},
		}
		cluster = &extensionscontroller.Cluster{Shoot: &gardencorev1beta1.Shoot{Spec: gardencorev1beta1.ShootSpec{
			Kubernetes: gardencorev1beta1.Kubernetes{Version: "1.36.3"},
			Resources: []gardencorev1beta1.NamedResourceReference{{
				Name:        "ecr",
				ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "security.gardener.cloud/v1alpha1", Kind: "WorkloadIdentity", Name: "puller"},
			}},
		}}}
	)
	read := func(ctx context.Context) ([]deployment, []error) {
		GinkgoHelper()
		actuator.Client = fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(secret).Build()
		caches, problems, err := actuator.readCaches(ctx, ex, cluster)
		Expect(err).NotTo(HaveOccurred())
		return caches, problems
	}

	BeforeEach(func() {
		codec, err := codec.New()
		Expect(err).NotTo(HaveOccurred())
		images, err := imagevector.ImageVector()
		Expect(err).NotTo(HaveOccurred())
		actuator = &Actuator{Codec: codec, Images: images, CopyTimeout: time.Millisecond}
		secret = &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: ex.Namespace, Name: "workload-identity-ref-puller", Labels: map[string]string{
				"workloadidentity.security.gardener.cloud/provider": "aws",
			}},
			Data: map[string][]byte{"config": []byte(`{"roleARN":"arn:aws:iam::123456789012:role/puller"}`), "token": []byte("token")},
		}
	})

	It("is read with the token that Gardener keeps fresh", func(ctx SpecContext) {
		caches, problems := read(ctx)
		Expect(problems).To(BeEmpty())
		Expect(caches).To(ConsistOf(HaveField("Credential", HaveValue(And(
			HaveField("Name", "WorkloadIdentity/puller"), HaveField("Material.WorkloadIdentity.Token", "token"))))))
	})

	It("is a retryable problem without a token", func(ctx SpecContext) {
		delete(secret.Data, "token")
		caches, problems := read(ctx)
		Expect(caches).To(BeEmpty())
		Expect(problems).To(ConsistOf(MatchError(And(ContainSubstring(`WorkloadIdentity "puller"`), ContainSubstring("has no token in the seed yet")))))
		Expect(v1beta1helper.ExtractErrorCodes(problems[0])).To(ConsistOf(gardencorev1beta1.ErrorRetryableConfigurationProblem))
	})

	It("is the owner's problem if it is for another cloud", func(ctx SpecContext) {
		secret.Labels["workloadidentity.security.gardener.cloud/provider"] = "azure"
		caches, problems := read(ctx)
		Expect(caches).To(BeEmpty())
		Expect(problems).To(ConsistOf(MatchError(And(ContainSubstring(`: the WorkloadIdentity "puller" is invalid; create a new one`), ContainSubstring(`must have spec.targetSystem.type "aws"`)))))
	})

	It("gets its new token although the credential of another team cannot be used", func(ctx SpecContext) {
		ex := ex.DeepCopy()
		ex.Spec.ProviderConfig.Raw = []byte(`{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[{"upstream":"` + ecr + `","http":{"tls":false},
			"credentials":[{"repositories":["team-a"],"secretReferenceName":"ecr"},{"repositories":["team-b"],"secretReferenceName":"team-b"}]}]}`)
		cluster := &extensionscontroller.Cluster{Shoot: cluster.Shoot.DeepCopy()}
		cluster.Shoot.Spec.Resources = append(cluster.Shoot.Spec.Resources, gardencorev1beta1.NamedResourceReference{
			Name: "team-b", ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "Secret", Name: "team-b-v1"},
		})
		teamB := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: ex.Namespace, Name: "ref-team-b-v1"}, Immutable: new(true),
			Data: map[string][]byte{"username": []byte("robot"), "password": []byte("example")},
		}
		actuator.Client = fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(secret, teamB).Build()
		caches, problems, err := actuator.readCaches(ctx, ex, cluster)
		Expect(err).NotTo(HaveOccurred())
		Expect(problems).To(BeEmpty())
		Expect(actuator.deployCaches(ctx, ex.Namespace, caches, metadata{})).To(Succeed())

		Expect(actuator.Client.Delete(ctx, teamB)).To(Succeed())
		secret.ResourceVersion, secret.Data["token"] = "", []byte("newer-token")
		Expect(actuator.Client.Update(ctx, secret)).To(Succeed())
		caches, problems, err = actuator.readCaches(ctx, ex, cluster)
		Expect(err).NotTo(HaveOccurred())
		Expect(problems).To(ConsistOf(MatchError(ContainSubstring(`Secret "team-b-v1"`))))
		Expect(caches).To(ConsistOf(And(HaveField("Deployed", BeNil()), HaveField("RepositoryCredentials", HaveExactElements(
			HaveField("Credential.Material.WorkloadIdentity.Token", "newer-token"),
			HaveField("Credential.Material.Credential.Username", "robot"),
		)))))
	})
})
