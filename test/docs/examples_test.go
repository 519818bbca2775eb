// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	securityv1alpha1 "github.com/gardener/gardener/pkg/apis/security/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	"github.com/larder-project/larder/pkg/admission/shoot"
	"github.com/larder-project/larder/pkg/apis/mirror"
	mirrorcodec "github.com/larder-project/larder/pkg/apis/mirror/codec"
	mirrorv1alpha1 "github.com/larder-project/larder/pkg/apis/mirror/v1alpha1"
	mirrorvalidation "github.com/larder-project/larder/pkg/apis/mirror/validation"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/pkg/apis/registry/validation"
)

const (
	usage     = "docs/usage.md"
	namespace = "garden-dev"
)

// An owner who follows the guide must succeed, so its Shoots are reviewed as the admission component reviews them.
var _ = Describe("Examples of "+usage, func() {
	It("are accepted by the admission component", func() {
		examples := readExamples()
		Expect(len(examples.shoots)).To(BeNumerically(">", 10))

		var lock sync.Mutex
		read := sets.New[string]()
		handler := examples.newHandler(func(name string) {
			lock.Lock()
			defer lock.Unlock()
			read.Insert(name)
		})
		for _, example := range examples.shoots {
			By(example.position)
			response := handler.Handle(context.Background(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
				Operation: admissionv1.Create,
				Object:    runtime.RawExtension{Raw: encode(example.shoot)},
			}})
			Expect(response.Allowed).To(BeTrue(), "%s: %s", example.position, response.Result.Message)
		}

		// What no Shoot references has not been validated.
		for _, object := range examples.objects {
			Expect(read.Has(object.GetName())).To(BeTrue(), "no example with spec.resources references %s", object.GetName())
		}
	})

	It("have valid configurations", func() {
		caches, err := codec.New()
		Expect(err).NotTo(HaveOccurred())
		mirrors, err := mirrorcodec.New()
		Expect(err).NotTo(HaveOccurred())
		examples := readExamples()
		Expect(len(examples.configs)).To(BeNumerically(">", 10))

		for _, example := range examples.configs {
			By(example.position)
			raw := &runtime.RawExtension{Raw: encode(example.config)}
			if example.config["kind"] == "MirrorConfig" {
				config, err := mirrors.DecodeConfigStrict(raw)
				Expect(err).NotTo(HaveOccurred(), example.position)
				Expect(mirrorvalidation.ValidateMirrorConfig(config, nil)).To(BeEmpty(), example.position)
				continue
			}
			config, err := caches.DecodeConfigStrict(raw)
			Expect(err).NotTo(HaveOccurred(), example.position)
			Expect(validation.ValidateRegistryConfig(config, nil)).To(BeEmpty(), example.position)
		}
	})

	It("have policies in JSON", func() {
		for _, block := range blocks(usage) {
			if block.language == "json" {
				Expect(json.Valid([]byte(block.text))).To(BeTrue(), block.position)
			}
		}
	})
})

// examples are the examples in YAML.
type examples struct {
	// shoots reference Secrets and workload identities.
	shoots []shootExample
	// configs are configurations without references, or parts of them that show a field.
	configs []configExample
	// objects are the Secrets and the workload identities, and commandSecrets those that commands create.
	objects        []client.Object
	commandSecrets []*corev1.Secret
}

type shootExample struct {
	position string
	shoot    *gardencorev1beta1.Shoot
}

type configExample struct {
	position string
	config   map[string]any
}

func readExamples() *examples {
	GinkgoHelper()
	read := &examples{commandSecrets: secretsOfCommands(usage, filesOfOwner())}
	for _, block := range blocks(usage) {
		if block.language != "yaml" {
			continue
		}
		var content any
		Expect(yaml.UnmarshalStrict([]byte(block.text), &content)).To(Succeed(), block.position)
		switch content := content.(type) {
		case []any:
			read.addConfig(block.position, content)
		case map[string]any:
			switch kind := content["kind"]; {
			case kind == "Secret":
				read.addObject(block, &corev1.Secret{})
			case kind == "ConfigMap": // Those for pods with an account have tests of their own.
			case kind == "WorkloadIdentity":
				read.addObject(block, &securityv1alpha1.WorkloadIdentity{})
			case content["caches"] != nil:
				read.addConfig(block.position, content["caches"].([]any))
			case kind == "Shoot", kind == nil && content["spec"] != nil:
				read.addShoot(block)
			case content["containers"] != nil:
				Expect(yaml.UnmarshalStrict([]byte(block.text), &corev1.PodSpec{})).To(Succeed(), block.position)
			default:
				Fail(block.position + ": unknown kind of example")
			}
		}
	}
	return read
}

// addConfig adds a list of caches or of mirrors, which have hosts.
func (e *examples) addConfig(position string, items []any) {
	config := map[string]any{"apiVersion": v1alpha3.SchemeGroupVersion.String(), "kind": "RegistryConfig", "caches": items}
	if slices.ContainsFunc(items, func(item any) bool { return item.(map[string]any)["hosts"] != nil }) {
		config = map[string]any{"apiVersion": mirrorv1alpha1.SchemeGroupVersion.String(), "kind": "MirrorConfig", "mirrors": items}
	}
	e.configs = append(e.configs, configExample{position, config})
}

func (e *examples) addObject(block block, object client.Object) {
	GinkgoHelper()
	Expect(yaml.UnmarshalStrict([]byte(block.text), object)).To(Succeed(), block.position)
	Expect(object.GetNamespace()).To(Equal(namespace), block.position)
	switch object := object.(type) {
	case *corev1.Secret:
		object.Data = map[string][]byte{}
		// The API server converts in the same way.
		for key, value := range object.StringData {
			object.Data[key] = []byte(value)
		}
		object.StringData = nil
	case *securityv1alpha1.WorkloadIdentity:
		// gardener-apiserver has the configuration in JSON.
		Expect(json.Valid(object.Spec.TargetSystem.ProviderConfig.Raw)).To(BeTrue(), block.position)
	}
	e.objects = append(e.objects, object)
}

// addShoot adds a part of a Shoot. One without extensions replaces references of the example before.
func (e *examples) addShoot(block block) {
	GinkgoHelper()
	read := &gardencorev1beta1.Shoot{}
	Expect(yaml.UnmarshalStrict([]byte(block.text), read)).To(Succeed(), block.position)
	if len(read.Spec.Extensions) == 0 {
		Expect(e.shoots).NotTo(BeEmpty(), block.position)
		replaced := e.shoots[len(e.shoots)-1].shoot.DeepCopy()
		for _, resource := range read.Spec.Resources {
			i := slices.IndexFunc(replaced.Spec.Resources, func(r gardencorev1beta1.NamedResourceReference) bool { return r.Name == resource.Name })
			Expect(i).To(BeNumerically(">=", 0), "%s: the example before has no entry %s", block.position, resource.Name)
			replaced.Spec.Resources[i] = resource
		}
		read = replaced
	}
	for _, extension := range read.Spec.Extensions {
		Expect(extension.Type).To(BeElementOf(registry.ExtensionType, mirror.ExtensionType), block.position)
	}
	read.Name, read.Namespace = "example", namespace
	read.Spec.Provider.Workers = []gardencorev1beta1.Worker{{Name: "worker", CRI: &gardencorev1beta1.CRI{Name: gardencorev1beta1.CRINameContainerD}}}
	e.shoots = append(e.shoots, shootExample{block.position, read})
}

// newHandler returns the handler of the admission component for a garden with the objects of the examples. It reports
// the names that the handler reads.
func (e *examples) newHandler(report func(name string)) *shoot.Handler {
	GinkgoHelper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, gardencorev1beta1.AddToScheme, securityv1alpha1.AddToScheme} {
		Expect(add(scheme)).To(Succeed())
	}
	builder := fake.NewClientBuilder().WithScheme(scheme)
	names := sets.New[string]()
	add := func(object client.Object) {
		GinkgoHelper()
		name := fmt.Sprintf("%T %s", object, object.GetName())
		Expect(names.Has(name)).To(BeFalse(), "two examples are named %s", name)
		names.Insert(name)
		builder.WithObjects(object.DeepCopyObject().(client.Object))
	}
	for _, object := range e.objects {
		add(object)
	}
	for _, secret := range e.commandSecrets {
		add(secret)
	}
	reader := builder.WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
			report(key.Name)
			return c.Get(ctx, key, object, options...)
		},
	}).Build()
	handler, err := shoot.NewHandler(admission.NewDecoder(scheme), reader)
	Expect(err).NotTo(HaveOccurred())
	return handler
}
