// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package mirror_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/larder-project/larder/pkg/apis/mirror/codec"
	"github.com/larder-project/larder/pkg/controller/mirror"
	"github.com/larder-project/larder/pkg/problem"
	"github.com/larder-project/larder/test/pki"
)

const namespace = "shoot--dev--example"

var _ = Describe("Actuator", func() {
	var (
		shoot    *gardencorev1beta1.Shoot
		ex       *extensionsv1alpha1.Extension
		caSecret *corev1.Secret
		actuator *mirror.Actuator
		reads    int
	)

	BeforeEach(func() {
		codec, err := codec.New()
		Expect(err).NotTo(HaveOccurred())
		actuator = &mirror.Actuator{Codec: codec, CopyTimeout: time.Millisecond}
		shoot = &gardencorev1beta1.Shoot{
			TypeMeta:   metav1.TypeMeta{APIVersion: gardencorev1beta1.SchemeGroupVersion.String(), Kind: "Shoot"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "garden-dev", Name: "example"},
		}
		shoot.Spec.Resources = []gardencorev1beta1.NamedResourceReference{
			{Name: "ca", ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "Secret", Name: "ca-v1"}},
			{Name: "other", ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "ConfigMap", Name: "other"}},
		}
		ex = &extensionsv1alpha1.Extension{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "registry-mirror"},
			Spec:       extensionsv1alpha1.ExtensionSpec{DefaultSpec: extensionsv1alpha1.DefaultSpec{Type: "registry-mirror"}},
		}
		authority, err := pki.NewAuthority("mirror")
		Expect(err).NotTo(HaveOccurred())
		caSecret = &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "ref-ca-v1"},
			Immutable:  new(true),
			Data:       map[string][]byte{"bundle.crt": authority.Certificate},
		}
		reads = 0
	})

	privateKey := []byte("-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n")
	configure := func(mirrors string) {
		ex.Spec.ProviderConfig = &runtime.RawExtension{Raw: []byte(`{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[` + mirrors + `]}`)}
	}
	withCA := func(upstream, entry string) string {
		return fmt.Sprintf(`{"upstream":%q,"hosts":[{"host":"https://mirror.example.com","caBundleSecretReferenceName":%q}]}`, upstream, entry)
	}
	seed := func(objects ...client.Object) *fakeclient.ClientBuilder {
		GinkgoHelper()
		raw, err := json.Marshal(shoot)
		Expect(err).NotTo(HaveOccurred())
		cluster := &extensionsv1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: namespace}, Spec: extensionsv1alpha1.ClusterSpec{Shoot: runtime.RawExtension{Raw: raw}}}
		return fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(append(objects, cluster)...)
	}
	reconcile := func(ctx context.Context, objects ...client.Object) error {
		GinkgoHelper()
		actuator.Client = seed(objects...).WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
				if _, ok := object.(*corev1.Secret); ok {
					reads++
				}
				return c.Get(ctx, key, object, options...)
			},
		}).Build()
		return actuator.Reconcile(ctx, logr.Discard(), ex)
	}

	It("accepts mirrors whose Secrets are valid, and reads each Secret once", func(ctx SpecContext) {
		configure(withCA("docker.io", "ca") + "," + withCA("quay.io", "ca") + `,{"upstream":"ghcr.io","hosts":[{"host":"https://mirror.example.com"}]}`)
		Expect(reconcile(ctx, caSecret)).To(Succeed())
		Expect(reads).To(Equal(1))
		Expect(ex.Status.ProviderStatus).To(BeNil())
	})

	It("accepts a Secret that only admission refuses, since the Shoot may have used it before", func(ctx SpecContext) {
		configure(withCA("docker.io", "ca"))
		caSecret.Immutable = nil
		caSecret.Data["tls.key"] = privateKey
		caSecret.Data["bundle.crt"] = append(caSecret.Data["bundle.crt"], privateKey...)
		Expect(reconcile(ctx, caSecret)).To(Succeed())
	})

	It("accepts the mirrors of a hibernated Shoot", func(ctx SpecContext) {
		shoot.Spec.Hibernation = &gardencorev1beta1.Hibernation{Enabled: new(true)}
		configure(withCA("docker.io", "ca"))
		Expect(reconcile(ctx, caSecret)).To(Succeed())
	})

	It("waits for the copy of a Secret", func(ctx SpecContext) {
		configure(withCA("docker.io", "ca"))
		actuator.CopyTimeout = time.Minute
		missed := false
		actuator.Client = seed().WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
				err := c.Get(ctx, key, object, options...)
				if key.Name == caSecret.Name && !missed {
					missed = true
					Expect(c.Create(ctx, caSecret)).To(Succeed())
				}
				return err
			},
		}).Build()
		Expect(actuator.Reconcile(ctx, logr.Discard(), ex)).To(Succeed())
		Expect(missed).To(BeTrue())
	})

	It("does not wait again after an error", func(ctx SpecContext) {
		configure(withCA("docker.io", "ca"))
		actuator.CopyTimeout = time.Hour
		ex.Status.LastError = &gardencorev1beta1.LastError{}
		Expect(reconcile(ctx)).To(MatchError(ContainSubstring("has not been copied to the seed yet")))
	}, SpecTimeout(time.Minute))

	DescribeTable("reports a problem",
		func(ctx SpecContext, prepare func(), code gardencorev1beta1.ErrorCode, messages ...string) {
			prepare()
			err := reconcile(ctx, caSecret)
			for _, message := range messages {
				Expect(err).To(MatchError(ContainSubstring(message)))
			}
			Expect(v1beta1helper.ExtractErrorCodes(err)).To(ConsistOf(code))
			Expect(err.Error()).NotTo(ContainSubstring("mirror.example.com"), "a URL may contain a password")
		},
		Entry("no configuration", func() {}, gardencorev1beta1.ErrorConfigurationProblem, "decode providerConfig of extension registry-mirror: document is missing"),
		Entry("an entry that does not exist", func() { configure(withCA("docker.io", "nothing")) }, gardencorev1beta1.ErrorConfigurationProblem,
			"mirror of docker.io", `caBundleSecretReferenceName "nothing" does not name an entry`),
		Entry("an entry of another kind", func() { configure(withCA("docker.io", "other")) }, gardencorev1beta1.ErrorConfigurationProblem, `references the ConfigMap "other"`),
		Entry("a Secret that is not copied", func() {
			configure(withCA("docker.io", "ca"))
			shoot.Spec.Resources[0].ResourceRef.Name = "ca-v2"
		}, gardencorev1beta1.ErrorRetryableConfigurationProblem, `the Secret "ca-v2"`, "has not been copied to the seed yet"),
		Entry("a Secret without a certificate", func() {
			configure(withCA("docker.io", "ca"))
			caSecret.Data["bundle.crt"] = privateKey
		}, gardencorev1beta1.ErrorConfigurationProblem, `the Secret "ca-v1" is invalid`, "no private keys"),
		Entry("all problems at once", func() {
			configure(withCA("docker.io", "nothing") + "," + withCA("quay.io", "other"))
		}, gardencorev1beta1.ErrorConfigurationProblem, "mirror of docker.io", "mirror of quay.io"),
	)

	It("bounds its error", func(ctx SpecContext) {
		var mirrors []string
		for i := range 250 {
			mirrors = append(mirrors, withCA("docker.io", fmt.Sprint(strings.Repeat("x", 500), i)))
		}
		configure(strings.Join(mirrors, ","))
		err := reconcile(ctx)
		Expect(err).To(HaveOccurred())
		Expect(len(err.Error())).To(BeNumerically("<=", problem.MaxError))
	})

	It("needs nothing to be restored, migrated or deleted", func(ctx SpecContext) {
		configure(withCA("docker.io", "ca"))
		actuator.Client = seed(caSecret).Build()
		Expect(actuator.Restore(ctx, logr.Discard(), ex)).To(Succeed())
		actuator.Client = nil
		Expect(actuator.Migrate(ctx, logr.Discard(), ex)).To(Succeed())
		Expect(actuator.Delete(ctx, logr.Discard(), ex)).To(Succeed())
		Expect(actuator.ForceDelete(ctx, logr.Discard(), ex)).To(Succeed())
	})
})
