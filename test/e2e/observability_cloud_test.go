// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"context"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/cloudsim"
	"github.com/larder-project/larder/test/landscape/evidence"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/upstreamsim"
)

const (
	cloudKeyReference = "observed-key"
	cloudCAReference  = "observed-ca"
	// nextCloudKey is the name of the Secret with the key of a rotation.
	nextCloudKey = "observed-key-next"
	// longLifetime is that of the tokens of Amazon ECR.
	longLifetime = 12 * time.Hour
	// shortLifetime is less than the alert requires of a credential that is renewed in time.
	shortLifetime = 30 * time.Second
)

// cloudKeys are the IDs of access keys by the name of their Secret.
var cloudKeys = map[string]string{cloudKeyReference: "AKIAOBSERVED1EXAMPLE", nextCloudKey: "AKIAOBSERVED2EXAMPLE"}

// startCloud starts a registry of a simulated cloud. The cache reaches both by a proxy, since their names are those of the
// real ones.
func startCloud() *observedCache {
	GinkgoHelper()
	authority, err := pki.NewAuthority("cloud")
	Expect(err).NotTo(HaveOccurred())
	pair, err := authority.Issue(pki.Request{CommonName: expiringHost, Hosts: []string{expiringHost}})
	Expect(err).NotTo(HaveOccurred())
	certificate, err := pair.TLS()
	Expect(err).NotTo(HaveOccurred())
	var cache *observedCache
	cache = newObservedCache(expiringHost, upstreamsim.Options{
		Authentication: upstreamsim.Basic, Certificate: &certificate,
		Accounts: func() []upstreamsim.Account { return cache.cloud.Accounts() },
	})

	options := cloudsim.Options{
		Authority: authority, Lifetime: longLifetime, Address: here.IP(),
		Registries: map[string]string{expiringHost: strings.TrimPrefix(cache.upstream.URL(), "https://")},
	}
	options.Listen, err = evidence.Listener(here)
	Expect(err).NotTo(HaveOccurred())
	options.Dial, err = evidence.Dialer(here)
	Expect(err).NotTo(HaveOccurred())
	cache.cloud, err = cloudsim.Start(options)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(cache.cloud.Close)
	for _, id := range cloudKeys {
		cache.cloud.AddKey(id, "secret-of-"+id, "")
	}
	return cache
}

// createCloudSecrets creates the Secrets that the cache of a cloud's registry references.
func createCloudSecrets(ctx context.Context, cloud *cloudsim.Cloud) {
	GinkgoHelper()
	contents := map[string]map[string][]byte{cloudCAReference: {"bundle.crt": cloud.CA()}}
	for name, id := range cloudKeys {
		contents[name] = map[string][]byte{"accessKeyID": []byte(id), "secretAccessKey": []byte("secret-of-" + id)}
	}
	for name, data := range contents {
		secret := projectSecret(name)
		secret.Type, secret.Immutable, secret.Data = corev1.SecretTypeOpaque, new(true), data
		Expect(client.IgnoreNotFound(c.Delete(ctx, projectSecret(name)))).To(Succeed())
		Expect(c.Create(ctx, secret)).To(Succeed())
		DeferCleanup(func(ctx context.Context) error { return client.IgnoreNotFound(c.Delete(ctx, projectSecret(name))) })
	}
}

// expiringCredential makes the cloud issue tokens that expire soon, the next one for a rotation.
func expiringCredential(caches observedCaches) *cause {
	cloud := caches[expiringHost].cloud
	return &cause{
		host:   expiringHost,
		what:   "tokens for 30 seconds",
		alerts: []string{"RegistryCacheCredentialExpiresSoon"},
		start: func(ctx context.Context) {
			cloud.SetLifetime(shortLifetime)
			referObserved(ctx, cloudKeyReference, nextCloudKey)
			// Another cause stops the delivery of Secrets.
			Eventually(ctx, func(g Gomega) {
				status := cacheStatus(ctx, g, expiringHost).Credentials
				g.Expect(status).NotTo(BeNil())
				g.Expect(status.SecretName).To(Equal(nextCloudKey))
			}).Should(Succeed())
		},
		stop: func(context.Context) { cloud.SetLifetime(longLifetime) },
	}
}
