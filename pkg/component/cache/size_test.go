// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache_test

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"

	"github.com/gardener/gardener/pkg/client/kubernetes"
	"github.com/gardener/gardener/pkg/utils/managedresources"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/validation"
	"github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
)

// random returns incompressible text.
func random(length int) []byte {
	data := make([]byte, length)
	_, _ = rand.Read(data)
	return []byte(base64.StdEncoding.EncodeToString(data))[:length]
}

// largest is the longest credential that admission accepts.
func largest(name string) credentials.Named {
	password := string(random(ownersecret.MaxLength - len("robot")))
	return credentials.Named{Name: name, Material: credentials.Static(credentials.Credential{Username: "robot", Password: password})}
}

var _ = Describe("The largest configuration", func() {
	It("fits into a Secret for the credentials of a cache", func() {
		values := privateHA()
		values.Credential, values.PreviousCredential = new(largest("v2")), new(largest("v1"))
		for i := range validation.MaxCredentials {
			values.RepositoryCredentials = append(values.RepositoryCredentials, cache.RepositoryCredential{
				Repositories: []string{fmt.Sprintf("team-%d", i)}, Credential: new(largest("v2")), Previous: new(largest("v1")),
			})
		}
		secret := cache.CredentialsSecret(values)
		Expect(secret.Data).To(HaveLen(6 * (1 + validation.MaxCredentials)))
		size := 0
		for _, value := range secret.Data {
			size += len(value)
		}
		Expect(size).To(BeNumerically("<", corev1.MaxSecretSize))
		Expect(sizeOf([]client.Object{secret})).To(BeNumerically("<", corev1.MaxSecretSize))
	})

	It("fits into the two Secrets of a ManagedResource", func() {
		// Caches share the Secrets of owners, of which there can be few.
		connections := make([]cache.Connection, validation.MaxConnectionSecrets)
		for i := range connections {
			connections[i] = cache.Connection{
				CABundle:          random(ownersecret.MaxCABundleLength),
				ClientCertificate: &cache.Certificate{Certificate: random(ownersecret.MaxClientCertificateLength), Key: random(ownersecret.MaxClientKeyLength)},
				ProxyCredential:   &credentials.Credential{Username: "proxy", Password: string(random(ownersecret.MaxProxyCredentialLength - 5))},
			}
		}
		clientCAs := random(2 * 1700)
		var objects, large []client.Object
		for i := range validation.MaxCaches {
			values := privateHA()
			values.Cache.Upstream = fmt.Sprintf("registry-%d.example.com:5443", i)
			values.Credential.Material.Credential.Password, values.PreviousCredential.Material.Credential.Password = string(random(1024)), string(random(1024))
			// Gardener's certificates have RSA keys of 3,072 bits.
			values.Certificate = &cache.Certificate{Certificate: random(1700), Key: random(2500)}
			values.Connection = connections[i%len(connections)]
			values.Cache.Access = &registry.Access{Mode: registry.AccessNodes}
			values.Access = &cache.Access{DebugToken: cache.NewDebugToken(), ClientCAs: clientCAs}
			cacheObjects, err := cache.Objects(values)
			Expect(err).NotTo(HaveOccurred())
			for _, object := range cacheObjects {
				if cache.IsConnectionSecret(object) {
					large = append(large, object)
				} else {
					objects = append(objects, object)
				}
			}
		}
		Expect(large).To(HaveLen(validation.MaxCaches))
		Expect(sizeOf(objects)).To(BeNumerically("<", corev1.MaxSecretSize))
		Expect(sizeOf(large)).To(BeNumerically("<", corev1.MaxSecretSize))
	})
})

// sizeOf returns the size of the Secret of a ManagedResource with the objects.
func sizeOf(objects []client.Object) int {
	GinkgoHelper()
	data, err := managedresources.NewRegistry(kubernetes.ShootScheme, kubernetes.ShootCodec, kubernetes.ShootSerializer).AddAllAndSerialize(objects...)
	Expect(err).NotTo(HaveOccurred())
	size := 0
	for key, value := range data {
		size += len(key) + len(value)
	}
	return size
}
