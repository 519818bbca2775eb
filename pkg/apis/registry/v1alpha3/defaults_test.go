// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package v1alpha3_test

import (
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
)

var _ = Describe("Defaults", func() {
	defaulted := func(cache v1alpha3.RegistryCache) v1alpha3.RegistryCache {
		config := &v1alpha3.RegistryConfig{Caches: []v1alpha3.RegistryCache{cache}}
		v1alpha3.SetObjectDefaults_RegistryConfig(config)
		return config.Caches[0]
	}

	documented := v1alpha3.RegistryCache{
		Upstream:          "quay.io",
		RemoteURL:         new("https://quay.io"),
		Volume:            &v1alpha3.Volume{Size: new(resource.MustParse("10Gi"))},
		GarbageCollection: &v1alpha3.GarbageCollection{TTL: &metav1.Duration{Duration: 7 * 24 * time.Hour}},
		HTTP:              &v1alpha3.HTTP{TLS: new(true)},
		HighAvailability:  &v1alpha3.HighAvailability{Enabled: false},
		Access:            &v1alpha3.Access{Mode: v1alpha3.AccessCluster},
	}

	It("sets defaults for unset fields", func() {
		Expect(defaulted(v1alpha3.RegistryCache{Upstream: "quay.io"})).To(BeComparableTo(documented))
	})

	It("sets defaults in empty blocks", func() {
		Expect(defaulted(v1alpha3.RegistryCache{
			Upstream:          "quay.io",
			Volume:            &v1alpha3.Volume{},
			GarbageCollection: &v1alpha3.GarbageCollection{},
			HTTP:              &v1alpha3.HTTP{},
			HighAvailability:  &v1alpha3.HighAvailability{},
			Access:            &v1alpha3.Access{},
		})).To(BeComparableTo(documented))
	})

	It("sets the durations of grants only in the mode that has them", func() {
		access := func(mode v1alpha3.AccessMode) *v1alpha3.Access {
			return defaulted(v1alpha3.RegistryCache{Access: &v1alpha3.Access{Mode: mode}}).Access
		}
		Expect(access(v1alpha3.AccessPullSecrets)).To(BeComparableTo(&v1alpha3.Access{
			Mode:                v1alpha3.AccessPullSecrets,
			GrantDuration:       &metav1.Duration{Duration: 5 * time.Minute},
			OutageGrantDuration: &metav1.Duration{Duration: 24 * time.Hour},
		}))
		Expect(access(v1alpha3.AccessNodes)).To(BeComparableTo(&v1alpha3.Access{Mode: v1alpha3.AccessNodes}))
	})

	It("rotates the passwords of accounts each day", func() {
		cache := defaulted(v1alpha3.RegistryCache{Accounts: []v1alpha3.Account{{Name: "a"}, {Name: "b", RotationPeriod: &metav1.Duration{Duration: time.Hour}}}})
		Expect(cache.Accounts).To(HaveExactElements(
			HaveField("RotationPeriod", HaveValue(HaveField("Duration", 24*time.Hour))),
			HaveField("RotationPeriod", HaveValue(HaveField("Duration", time.Hour))),
		))
	})

	It("uses the API host of Docker Hub", func() {
		Expect(defaulted(v1alpha3.RegistryCache{Upstream: "docker.io"}).RemoteURL).To(HaveValue(Equal("https://registry-1.docker.io")))
	})

	It("removes a single trailing slash from URLs", func() {
		urls := func(suffix string) v1alpha3.RegistryCache {
			return v1alpha3.RegistryCache{
				RemoteURL: new("https://r.io" + suffix),
				Proxy:     &v1alpha3.Proxy{HTTPProxy: new("http://a:3128" + suffix), HTTPSProxy: new("http://b:3128" + suffix)},
			}
		}
		for _, suffix := range []string{"", "/a", "?", "#"} {
			for _, slash := range []string{"", "/"} {
				cache := defaulted(urls(suffix + slash))
				Expect(cache.RemoteURL).To(HaveValue(Equal("https://r.io" + suffix)))
				Expect(cache.Proxy).To(BeComparableTo(urls(suffix).Proxy))
			}
		}
		Expect(defaulted(urls("//"))).To(HaveField("RemoteURL", HaveValue(Equal("https://r.io/"))))
	})

	It("keeps set fields, including zero values", func() {
		cache := v1alpha3.RegistryCache{
			Upstream:            "quay.io",
			RemoteURL:           new(""),
			Volume:              &v1alpha3.Volume{Size: new(resource.MustParse("0")), StorageClassName: new("x")},
			GarbageCollection:   &v1alpha3.GarbageCollection{TTL: &metav1.Duration{}},
			SecretReferenceName: new("x"),
			Proxy:               &v1alpha3.Proxy{},
			HTTP:                &v1alpha3.HTTP{TLS: new(false)},
			HighAvailability:    &v1alpha3.HighAvailability{Enabled: true},
			ServiceNameSuffix:   new("x"),
			Access:              &v1alpha3.Access{Mode: v1alpha3.AccessPullSecrets, GrantDuration: &metav1.Duration{}, OutageGrantDuration: &metav1.Duration{}},
		}
		Expect(defaulted(*cache.DeepCopy())).To(BeComparableTo(cache))
	})
})
