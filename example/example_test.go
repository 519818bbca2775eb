// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package example_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	corevalidation "github.com/gardener/gardener/pkg/api/core/validation"
	"github.com/gardener/gardener/pkg/apis/core"
	coreinstall "github.com/gardener/gardener/pkg/apis/core/install"
	gardencorev1 "github.com/gardener/gardener/pkg/apis/core/v1"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	operatorv1alpha1 "github.com/gardener/gardener/pkg/apis/operator/v1alpha1"
	apiserverfeatures "github.com/gardener/gardener/pkg/apiserver/features"
	"github.com/gardener/gardener/pkg/utils/gardener/operator"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/larder-project/larder/pkg/apis/mirror"
	mirrorcodec "github.com/larder-project/larder/pkg/apis/mirror/codec"
	mirrorvalidation "github.com/larder-project/larder/pkg/apis/mirror/validation"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/apis/registry/validation"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
)

var scheme = func() *runtime.Scheme {
	scheme := runtime.NewScheme()
	coreinstall.Install(scheme)
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, operatorv1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	return scheme
}()

// read returns the objects of all examples by file.
func read() map[string][]runtime.Object {
	GinkgoHelper()
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	files, err := filepath.Glob("*.yaml")
	Expect(err).NotTo(HaveOccurred())

	objects := map[string][]runtime.Object{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		Expect(err).NotTo(HaveOccurred())
		reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
		for {
			document, err := reader.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			Expect(err).NotTo(HaveOccurred())
			object, _, err := decoder.Decode(document, nil, nil)
			Expect(err).NotTo(HaveOccurred(), file)
			objects[file] = append(objects[file], object)
		}
	}
	return objects
}

// The validation of Shoots needs the feature gates of gardener-apiserver.
var _ = BeforeSuite(apiserverfeatures.RegisterFeatureGates)

var _ = Describe("examples", func() {
	It("are complete", func() {
		files := read()
		Expect(files).To(HaveLen(7))
		for _, file := range []string{"10-ca-secret.yaml", "10-secret.yaml", "20-shoot.yaml", "20-shoot-all-fields.yaml", "20-shoot-mirrors.yaml", "controller-registration.yaml", "extension.yaml"} {
			Expect(files).To(HaveKey(file))
		}
	})

	It("are valid", func() {
		for file, objects := range read() {
			for _, object := range objects {
				By(file)
				switch object := object.(type) {
				case *corev1.Secret:
					expectSecret(object)
				case *gardencorev1beta1.Shoot:
					expectShoot(object)
				case *gardencorev1.ControllerDeployment:
					internal := &core.ControllerDeployment{}
					convert(object, internal)
					Expect(corevalidation.ValidateControllerDeployment(internal)).To(BeEmpty())
				case *gardencorev1beta1.ControllerRegistration:
					internal := &core.ControllerRegistration{}
					convert(object, internal)
					Expect(corevalidation.ValidateControllerRegistration(internal)).To(BeEmpty())
				case *operatorv1alpha1.Extension:
					expectExtension(object)
				default:
					Fail("no validation for " + object.GetObjectKind().GroupVersionKind().String())
				}
			}
		}
	})

	DescribeTable("reference Secrets from the examples",
		func(shootFile, secretFile string) {
			files := read()
			shoot := files[shootFile][0].(*gardencorev1beta1.Shoot)
			secret := files[secretFile][0].(*corev1.Secret)
			Expect(shoot.Namespace).To(Equal(secret.Namespace))
			Expect(shoot.Spec.Resources[0].ResourceRef.Name).To(Equal(secret.Name))
			var entries []any
			for _, resource := range shoot.Spec.Resources {
				entries = append(entries, resource.Name)
			}
			Expect(references(shoot)).To(And(ContainElements(entries...), HaveEach(BeElementOf(entries...))))
		},
		Entry("a cache", "20-shoot.yaml", "10-secret.yaml"),
		Entry("all fields of caches", "20-shoot-all-fields.yaml", "10-secret.yaml"),
		Entry("mirrors", "20-shoot-mirrors.yaml", "10-ca-secret.yaml"),
	)
})

// convert sets the defaults of the API server and converts to the internal version.
func convert(external, internal runtime.Object) {
	GinkgoHelper()
	scheme.Default(external)
	Expect(scheme.Convert(external, internal, nil)).To(Succeed())
}

func expectShoot(shoot *gardencorev1beta1.Shoot) {
	GinkgoHelper()
	caches, mirrors := configsOf(shoot)
	if caches != nil {
		Expect(validation.ValidateRegistryConfig(caches, nil)).To(BeEmpty())
	}
	if mirrors != nil {
		Expect(mirrorvalidation.ValidateMirrorConfig(mirrors, nil)).To(BeEmpty())
	}

	internal := &core.Shoot{}
	convert(shoot.DeepCopy(), internal)
	Expect(corevalidation.ValidateShoot(internal)).To(BeEmpty())
}

// expectExtension validates the registration that gardener-operator derives from its Extension.
func expectExtension(extension *operatorv1alpha1.Extension) {
	GinkgoHelper()
	registration, _ := operator.ControllerRegistrationForExtension(extension)
	internal := &core.ControllerRegistration{}
	convert(registration, internal)
	Expect(corevalidation.ValidateControllerRegistration(internal)).To(BeEmpty())

	deployment := extension.Spec.Deployment
	for _, spec := range []*operatorv1alpha1.DeploymentSpec{
		&deployment.ExtensionDeployment.DeploymentSpec,
		deployment.AdmissionDeployment.RuntimeCluster,
		deployment.AdmissionDeployment.VirtualCluster,
	} {
		repository := &core.OCIRepository{}
		Expect(scheme.Convert(spec.Helm.OCIRepository, repository, nil)).To(Succeed())
		Expect(corevalidation.ValidateOCIRepository(repository, nil)).To(BeEmpty())
	}
}

// configsOf returns the configurations of the extensions; nil if the Shoot does not use one.
func configsOf(shoot *gardencorev1beta1.Shoot) (caches *registry.RegistryConfig, mirrors *mirror.MirrorConfig) {
	GinkgoHelper()
	cacheCodec, err := codec.New()
	Expect(err).NotTo(HaveOccurred())
	mirrorCodec, err := mirrorcodec.New()
	Expect(err).NotTo(HaveOccurred())
	for _, extension := range shoot.Spec.Extensions {
		switch extension.Type {
		case registry.ExtensionType:
			caches, err = cacheCodec.DecodeConfigStrict(extension.ProviderConfig)
		case mirror.ExtensionType:
			mirrors, err = mirrorCodec.DecodeConfigStrict(extension.ProviderConfig)
		default:
			Fail("unknown extension " + extension.Type)
		}
		Expect(err).NotTo(HaveOccurred())
	}
	return caches, mirrors
}

// references returns the names of the entries in spec.resources that the configurations reference.
func references(shoot *gardencorev1beta1.Shoot) []string {
	GinkgoHelper()
	var names []string
	caches, mirrors := configsOf(shoot)
	if caches != nil {
		for _, cache := range caches.Caches {
			referenced := []*string{cache.SecretReferenceName, cache.CABundleSecretReferenceName, cache.ClientCertificateSecretReferenceName}
			if cache.Proxy != nil {
				referenced = append(referenced, cache.Proxy.SecretReferenceName)
			}
			for i := range cache.Credentials {
				referenced = append(referenced, &cache.Credentials[i].SecretReferenceName)
			}
			for _, name := range referenced {
				if name != nil {
					names = append(names, *name)
				}
			}
		}
	}
	if mirrors != nil {
		for _, m := range mirrors.Mirrors {
			for _, host := range m.Hosts {
				if host.CABundleSecretReferenceName != nil {
					names = append(names, *host.CABundleSecretReferenceName)
				}
			}
		}
	}
	return names
}

func expectSecret(secret *corev1.Secret) {
	GinkgoHelper()
	stored := secret.DeepCopy()
	// The API server converts StringData in the same way.
	stored.Data = map[string][]byte{}
	for key, value := range stored.StringData {
		stored.Data[key] = []byte(value)
	}
	if _, ok := stored.Data[ownersecret.CABundleKey]; ok {
		Expect(ownersecret.ValidateCABundle(stored, time.Now(), nil)).To(BeEmpty())
		return
	}
	use := ownersecret.Use{Upstream: "docker.io", RemoteURL: "https://registry-1.docker.io"}
	Expect(ownersecret.Parse(stored).Validate(use, nil)).To(BeEmpty())
}
