// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package gardenlet

import (
	"context"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/spf13/afero"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/larder-project/larder/test/systemd"
)

const (
	seedNamespace = "shoot--dev--example"
	hostsFile     = "/etc/containerd/certs.d/registry.example/hosts.toml"
)

var _ = Describe("Reconciler", func() {
	var (
		ctx        context.Context
		c          client.Client
		disk       afero.Afero
		reconciler *Reconciler
		shoot      *gardencorev1beta1.Shoot
		// complaint is the error of the extension; nil means success.
		complaint *gardencorev1beta1.LastError
	)

	BeforeEach(func() {
		ctx = context.Background()
		complaint = nil

		scheme := runtime.NewScheme()
		Expect(clientgoscheme.AddToScheme(scheme)).To(Succeed())
		Expect(gardencorev1beta1.AddToScheme(scheme)).To(Succeed())
		Expect(extensionsv1alpha1.AddToScheme(scheme)).To(Succeed())
		Expect(resourcesv1alpha1.AddToScheme(scheme)).To(Succeed())

		shoot = exampleShoot()
		c = fake.NewClientBuilder().
			WithScheme(scheme).
			WithStatusSubresource(&gardencorev1beta1.Shoot{}, &extensionsv1alpha1.Extension{}, &extensionsv1alpha1.OperatingSystemConfig{}).
			WithObjects(
				shoot,
				&gardencorev1beta1.CloudProfile{ObjectMeta: metav1.ObjectMeta{Name: "local"}},
				&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "robot-v1", Namespace: shoot.Namespace}, Data: map[string][]byte{"username": []byte("robot")}},
				&corev1.Node{
					ObjectMeta: metav1.ObjectMeta{Name: "node"},
					Status:     corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{KubeletVersion: "v1.36.3"}},
				},
			).
			WithInterceptorFuncs(actors(func() *gardencorev1beta1.LastError { return complaint })).
			Build()

		disk = afero.Afero{Fs: afero.NewMemMapFs()}
		reconciler = &Reconciler{
			Client:     c,
			Kubeconfig: []byte("kubeconfig"),
			Node:       newNode(c, disk.Fs, systemd.New(GinkgoT().TempDir(), GinkgoWriter)),
			Clock:      clock.RealClock{},
			Patience:   Patience{Interval: time.Millisecond, Severe: 5 * time.Millisecond, Timeout: time.Minute},
		}
	})

	run := func() {
		GinkgoHelper()
		_, err := reconciler.Reconcile(ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(shoot)})
		Expect(err).NotTo(HaveOccurred())
		Expect(client.IgnoreNotFound(c.Get(ctx, client.ObjectKeyFromObject(shoot), shoot))).To(Succeed())
	}

	// change changes the specification like the API server.
	change := func(mutate func()) {
		GinkgoHelper()
		mutate()
		shoot.Generation++
		Expect(c.Update(ctx, shoot)).To(Succeed())
	}

	gone := func(object client.Object, namespace, name string) {
		GinkgoHelper()
		err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, object)
		Expect(apierrors.IsNotFound(err)).To(BeTrue(), "%T %s", object, name)
	}

	It("deploys everything for an extension like a gardenlet", func() {
		run()

		Expect(shoot.Status.TechnicalID).To(Equal(seedNamespace))
		Expect(shoot.Status.LastOperation.State).To(Equal(gardencorev1beta1.LastOperationStateSucceeded))
		Expect(shoot.Status.LastErrors).To(BeEmpty())

		namespace := &corev1.Namespace{}
		Expect(c.Get(ctx, client.ObjectKey{Name: seedNamespace}, namespace)).To(Succeed())
		Expect(namespace.Labels).To(And(
			HaveKeyWithValue("extensions.gardener.cloud/registry-cache", "true"),
			HaveKeyWithValue("gardener.cloud/role", "shoot"),
		))

		cluster := &extensionsv1alpha1.Cluster{}
		Expect(c.Get(ctx, client.ObjectKey{Name: seedNamespace}, cluster)).To(Succeed())
		Expect(string(cluster.Spec.Shoot.Raw)).To(ContainSubstring(`"name":"example"`))
		Expect(string(cluster.Spec.CloudProfile.Raw)).To(ContainSubstring(`"kind":"CloudProfile"`))

		kubeconfig := &corev1.Secret{}
		Expect(c.Get(ctx, client.ObjectKey{Namespace: seedNamespace, Name: "gardener"}, kubeconfig)).To(Succeed())
		Expect(kubeconfig.Data).To(HaveKeyWithValue("kubeconfig", []byte("kubeconfig")))

		resources := &resourcesv1alpha1.ManagedResource{}
		Expect(c.Get(ctx, client.ObjectKey{Namespace: seedNamespace, Name: "referenced-resources"}, resources)).To(Succeed())
		content := &corev1.Secret{}
		Expect(c.Get(ctx, client.ObjectKey{Namespace: seedNamespace, Name: resources.Spec.SecretRefs[0].Name}, content)).To(Succeed())
		Expect(string(content.Data["referenced-resources"])).To(ContainSubstring(`"name":"ref-robot-v1"`))
	})

	It("lets webhooks change only the configuration of running nodes and applies it to the node", func() {
		run()

		provision, original := &extensionsv1alpha1.OperatingSystemConfig{}, &extensionsv1alpha1.OperatingSystemConfig{}
		Expect(c.Get(ctx, client.ObjectKey{Namespace: seedNamespace, Name: "gardener-node-agent-worker-init"}, provision)).To(Succeed())
		Expect(c.Get(ctx, client.ObjectKey{Namespace: seedNamespace, Name: "gardener-node-agent-worker-original"}, original)).To(Succeed())
		Expect(provision.Spec.CRIConfig.Containerd.Registries).To(BeEmpty())
		Expect(original.Spec.CRIConfig.Containerd.Registries).To(HaveLen(1))

		hosts, err := disk.ReadFile(hostsFile)
		Expect(err).NotTo(HaveOccurred())
		Expect(string(hosts)).To(And(ContainSubstring(`server = "https://registry.example"`), ContainSubstring(`[host."http://10.43.0.9:5000"]`)))
	})

	It("reports the error of the extension and starts again when the Shoot changes", func() {
		complaint = &gardencorev1beta1.LastError{
			Description: `Secret "robot-v1" has no key password`,
			Codes:       []gardencorev1beta1.ErrorCode{gardencorev1beta1.ErrorConfigurationProblem},
		}
		run()

		Expect(shoot.Status.LastOperation.State).To(Equal(gardencorev1beta1.LastOperationStateFailed))
		Expect(shoot.Status.LastErrors).To(HaveLen(1))
		Expect(shoot.Status.LastErrors[0].Description).To(ContainSubstring(`Secret "robot-v1" has no key password`))
		Expect(shoot.Status.LastErrors[0].Codes).To(ConsistOf(gardencorev1beta1.ErrorConfigurationProblem))

		complaint = nil
		run()
		Expect(shoot.Status.LastOperation.State).To(Equal(gardencorev1beta1.LastOperationStateFailed), "nothing changed")

		change(func() { shoot.Spec.Region = "elsewhere" })
		run()
		Expect(shoot.Status.LastOperation.State).To(Equal(gardencorev1beta1.LastOperationStateSucceeded))
		Expect(shoot.Status.LastErrors).To(BeEmpty())
	})

	It("removes everything when the Shoot no longer uses the extension", func() {
		run()
		change(func() { shoot.Spec.Extensions = nil })
		run()

		Expect(shoot.Status.LastOperation.State).To(Equal(gardencorev1beta1.LastOperationStateSucceeded))
		gone(&extensionsv1alpha1.Extension{}, seedNamespace, "registry-cache")
		Expect(disk.Exists(hostsFile)).To(BeFalse())
		namespace := &corev1.Namespace{}
		Expect(c.Get(ctx, client.ObjectKey{Name: seedNamespace}, namespace)).To(Succeed())
		Expect(namespace.Labels).NotTo(HaveKey("extensions.gardener.cloud/registry-cache"))
	})

	It("treats a disabled extension like a missing one", func() {
		change(func() { shoot.Spec.Extensions[0].Disabled = new(true) })
		run()
		gone(&extensionsv1alpha1.Extension{}, seedNamespace, "registry-cache")
	})

	It("wipes the node while the Shoot is hibernated", func() {
		run()
		change(func() { shoot.Spec.Hibernation = &gardencorev1beta1.Hibernation{Enabled: new(true)} })
		run()
		Expect(shoot.Status.IsHibernated).To(BeTrue())
		Expect(disk.Exists(hostsFile)).To(BeFalse())

		change(func() { shoot.Spec.Hibernation = nil })
		run()
		Expect(shoot.Status.IsHibernated).To(BeFalse())
		Expect(disk.Exists(hostsFile)).To(BeTrue())
	})

	It("copies the health of extensions to the conditions of the Shoot", func() {
		run()
		extension := &extensionsv1alpha1.Extension{}
		Expect(c.Get(ctx, client.ObjectKey{Namespace: seedNamespace, Name: "registry-cache"}, extension)).To(Succeed())
		extension.Status.Conditions = []gardencorev1beta1.Condition{{
			Type: gardencorev1beta1.ShootSystemComponentsHealthy, Status: gardencorev1beta1.ConditionFalse, Reason: "CacheDown", Message: "No replica is ready.",
		}}
		Expect(c.Status().Update(ctx, extension)).To(Succeed())
		run()

		Expect(shoot.Status.Conditions).To(HaveLen(1))
		Expect(shoot.Status.Conditions[0].Status).To(Equal(gardencorev1beta1.ConditionFalse))
		Expect(shoot.Status.Conditions[0].Message).To(Equal("No replica is ready."))
	})

	It("leaves nothing of a deleted Shoot", func() {
		run()
		Expect(c.Delete(ctx, shoot)).To(Succeed())
		run()

		gone(&gardencorev1beta1.Shoot{}, shoot.Namespace, shoot.Name)
		gone(&corev1.Namespace{}, "", seedNamespace)
		gone(&extensionsv1alpha1.Cluster{}, "", seedNamespace)
		gone(&extensionsv1alpha1.Extension{}, seedNamespace, "registry-cache")
		gone(&extensionsv1alpha1.OperatingSystemConfig{}, seedNamespace, "gardener-node-agent-worker-original")
		gone(&corev1.Secret{}, metav1.NamespaceSystem, "gardener-node-agent-worker")
		gone(&resourcesv1alpha1.ManagedResource{}, seedNamespace, "referenced-resources")
		Expect(disk.Exists(hostsFile)).To(BeFalse())
	})
})

func exampleShoot() *gardencorev1beta1.Shoot {
	return &gardencorev1beta1.Shoot{
		ObjectMeta: metav1.ObjectMeta{Name: "example", Namespace: ProjectNamespace, UID: "1", Generation: 1},
		Spec: gardencorev1beta1.ShootSpec{
			CloudProfile: &gardencorev1beta1.CloudProfileReference{Kind: v1beta1constants.CloudProfileReferenceKindCloudProfile, Name: "local"},
			Provider: gardencorev1beta1.Provider{
				Type:    "local",
				Workers: []gardencorev1beta1.Worker{{Name: "worker", Machine: gardencorev1beta1.Machine{Image: &gardencorev1beta1.ShootMachineImage{Name: "local"}}}},
			},
			Extensions: []gardencorev1beta1.Extension{{Type: "registry-cache", ProviderConfig: &runtime.RawExtension{Raw: []byte(`{}`)}}},
			Resources:  []gardencorev1beta1.NamedResourceReference{{Name: "robot", ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "Secret", Name: "robot-v1"}}},
		},
	}
}

// actors stand in for the extension's controller, which responds at once, and its webhook.
func actors(complaint func() *gardencorev1beta1.LastError) interceptor.Funcs {
	report := func(ctx context.Context, c client.Client, object client.Object) error {
		extension, ok := object.(*extensionsv1alpha1.Extension)
		if !ok {
			return nil
		}
		delete(extension.Annotations, v1beta1constants.GardenerOperation)
		if err := c.Update(ctx, extension); err != nil {
			return err
		}
		extension.Status.LastError = complaint()
		extension.Status.LastOperation = &gardencorev1beta1.LastOperation{
			State:          gardencorev1beta1.LastOperationStateSucceeded,
			LastUpdateTime: metav1.Now(),
		}
		return c.Status().Update(ctx, extension)
	}
	mutate := func(object client.Object) {
		if osc, ok := object.(*extensionsv1alpha1.OperatingSystemConfig); ok && osc.Spec.Purpose == extensionsv1alpha1.OperatingSystemConfigPurposeReconcile {
			osc.Spec.CRIConfig.Containerd.Registries = []extensionsv1alpha1.RegistryConfig{{
				Upstream: "registry.example",
				Server:   new("https://registry.example"),
				Hosts:    []extensionsv1alpha1.RegistryHost{{URL: "http://10.43.0.9:5000"}},
			}}
		}
	}
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.CreateOption) error {
			mutate(object)
			if err := c.Create(ctx, object, options...); err != nil {
				return err
			}
			return report(ctx, c, object)
		},
		Patch: func(ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, options ...client.PatchOption) error {
			extensions := &extensionsv1alpha1.ExtensionList{}
			if err := c.List(ctx, extensions, client.InNamespace(object.GetNamespace())); err != nil {
				return err
			}
			if len(extensions.Items) > 0 {
				mutate(object)
			}
			if err := c.Patch(ctx, object, patch, options...); err != nil {
				return err
			}
			return report(ctx, c, object)
		},
	}
}
