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

	"github.com/larder-project/larder/pkg/apis/registry/validation"
	"github.com/larder-project/larder/pkg/component/cache"
)

var _ = Describe("The largest configuration", func() {
	It("fits into the Secret of one ManagedResource", func() {
		// random returns incompressible text.
		random := func(length int) []byte {
			data := make([]byte, length)
			_, _ = rand.Read(data)
			return []byte(base64.StdEncoding.EncodeToString(data))[:length]
		}
		var objects []client.Object
		for i := range validation.MaxCaches {
			values := privateHA()
			values.Cache.Upstream = fmt.Sprintf("registry-%d.example.com:5443", i)
			values.Credential.Material.Credential.Password, values.PreviousCredential.Material.Credential.Password = string(random(1024)), string(random(1024))
			// Gardener's certificates have RSA keys of 3,072 bits.
			values.Certificate = &cache.Certificate{Certificate: random(1700), Key: random(2500)}
			cacheObjects, err := cache.Objects(values)
			Expect(err).NotTo(HaveOccurred())
			objects = append(objects, cacheObjects...)
		}
		data, err := managedresources.NewRegistry(kubernetes.ShootScheme, kubernetes.ShootCodec, kubernetes.ShootSerializer).AddAllAndSerialize(objects...)
		Expect(err).NotTo(HaveOccurred())
		size := 0
		for key, value := range data {
			size += len(key) + len(value)
		}
		Expect(size).To(BeNumerically("<", corev1.MaxSecretSize))
	})
})
