// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/test/landscape/garden"
	"github.com/larder-project/larder/test/upstreamsim"
)

// credentialForm is a form of a credential, as docs/usage.md describes it.
type credentialForm struct {
	// newAccount returns an account with a secret that is recognizable wherever it occurs.
	newAccount func() upstreamsim.Account
	// write writes the account into a Secret.
	write func(*corev1.Secret, upstreamsim.Account)
	// configure changes the configuration of the cache, whose secretReferenceName is set.
	configure func(*v1alpha3.RegistryCache)
	// annotation is that of the StatefulSet for which the owner waits.
	annotation string
}

func canaryText() string { return "canary-" + rand.Text() }

func withPassword() upstreamsim.Account { return robot(rand.Text()[:4]) }

func writeKeys(usernameKey, passwordKey string) func(*corev1.Secret, upstreamsim.Account) {
	return func(secret *corev1.Secret, account upstreamsim.Account) {
		secret.Data = map[string][]byte{usernameKey: []byte(account.Username), passwordKey: []byte(account.Password)}
	}
}

// writeDocker writes a Docker configuration with an entry for the upstream and one for another registry.
func writeDocker(entry func(upstreamsim.Account) map[string]string) func(*corev1.Secret, upstreamsim.Account) {
	return func(secret *corev1.Secret, account upstreamsim.Account) {
		GinkgoHelper()
		content, err := json.Marshal(map[string]any{"auths": map[string]any{
			garden.PrivateHost: entry(account), "other.example.com": map[string]string{"username": "other", "password": canaryText()},
		}})
		Expect(err).NotTo(HaveOccurred())
		secret.Type = corev1.SecretTypeDockerConfigJson
		secret.Data = map[string][]byte{corev1.DockerConfigJsonKey: content}
	}
}

// serviceAccountKey is the key of a service account of Google, which a registry takes as a password.
func serviceAccountKey() upstreamsim.Account {
	GinkgoHelper()
	key, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "puller@project.iam.gserviceaccount.com", "private_key": canaryText(),
	})
	Expect(err).NotTo(HaveOccurred())
	return upstreamsim.Account{Username: "_json_key", Password: string(key)}
}

var _ = Describe("Forms of credentials", Ordered, Label("forms"), func() {
	var canaries []canary

	// create creates the Secret of an account.
	create := func(ctx context.Context, name string, form credentialForm, account upstreamsim.Account) {
		GinkgoHelper()
		secret := projectSecret(name)
		secret.Type, secret.Immutable = corev1.SecretTypeOpaque, new(true)
		form.write(secret, account)
		Expect(client.IgnoreNotFound(c.Delete(ctx, projectSecret(name)))).To(Succeed())
		Expect(c.Create(ctx, secret)).To(Succeed())
		DeferCleanup(func(ctx context.Context) {
			Expect(client.IgnoreNotFound(c.Delete(ctx, projectSecret(name)))).To(Succeed())
		})
		canaries = append(canaries, canariesOf(account)...)
	}
	waitFor := func(ctx context.Context, annotation, secret string) {
		GinkgoHelper()
		Eventually(ctx, func(g Gomega) {
			statefulSet := &appsv1.StatefulSet{}
			g.Expect(c.Get(ctx, cacheKey(garden.PrivateHost), statefulSet)).To(Succeed())
			g.Expect(statefulSet.Annotations).To(HaveKeyWithValue(annotation, secret))
		}).Should(Succeed())
	}

	AfterAll(func(ctx context.Context) {
		mayPull()
		configure(ctx, garden.Cache(garden.PrivateHost))
	}, NodeTimeout(journeyTimeout))

	DescribeTable("are rotated as in the guide, without a failed pull",
		func(ctx context.Context, form credentialForm) {
			one, two := form.newAccount(), form.newAccount()
			mayPull(one, two)
			create(ctx, "form-v1", form, one)
			create(ctx, "form-v2", form, two)
			cache := garden.Cache(garden.PrivateHost)
			cache.HTTP = &v1alpha3.HTTP{TLS: new(false)}
			if form.configure != nil {
				form.configure(&cache)
			}
			configureWith(ctx, "form-v1", cache)
			annotation := component.SecretNameAnnotation
			if form.annotation != "" {
				annotation = form.annotation
			}
			waitFor(ctx, annotation, "form-v1")
			before := cachePod(ctx)
			load := startPulls(ctx)
			load.awaitPulls(ctx, 3*pullsPerSecond)

			By("changing the reference, and revoking the old credential once the annotation shows the new one")
			began := time.Now()
			refer(ctx, "form-v2")
			waitFor(ctx, annotation, "form-v2")
			took := time.Since(began)
			mayPull(two)
			Expect(c.Delete(ctx, projectSecret("form-v1"))).To(Succeed())
			load.awaitPulls(ctx, 5*pullsPerSecond)
			result := load.stop()
			AddReportEntry("rotation", fmt.Sprintf("%d pulls, %d failed; in use after %s", result.pulls, len(result.failures), took.Round(time.Second)))
			Expect(result.failures).To(BeEmpty())
			Expect(cachePod(ctx).UID).To(Equal(before.UID))
		},
		Entry("kubernetes.io/basic-auth", SpecTimeout(rotationTimeout), credentialForm{
			newAccount: withPassword,
			write: func(secret *corev1.Secret, account upstreamsim.Account) {
				secret.Type = corev1.SecretTypeBasicAuth
				writeKeys("username", "password")(secret, account)
			},
		}),
		Entry("other keys", SpecTimeout(rotationTimeout), credentialForm{
			newAccount: withPassword, write: writeKeys("user", "token"),
			configure: func(cache *v1alpha3.RegistryCache) { cache.UsernameKey, cache.PasswordKey = new("user"), new("token") },
		}),
		Entry("Docker configuration", SpecTimeout(rotationTimeout), credentialForm{
			newAccount: withPassword,
			write: writeDocker(func(a upstreamsim.Account) map[string]string {
				return map[string]string{"username": a.Username, "password": a.Password}
			}),
		}),
		Entry("identity token", SpecTimeout(rotationTimeout), credentialForm{
			newAccount: func() upstreamsim.Account {
				return upstreamsim.Account{Username: "robot", IdentityToken: canaryText()}
			},
			write: writeDocker(func(a upstreamsim.Account) map[string]string {
				return map[string]string{"username": a.Username, "identitytoken": a.IdentityToken}
			}),
		}),
		Entry("registry token", SpecTimeout(rotationTimeout), credentialForm{
			newAccount: func() upstreamsim.Account {
				return upstreamsim.Account{Username: "robot", RegistryToken: canaryText()}
			},
			write: writeDocker(func(a upstreamsim.Account) map[string]string {
				return map[string]string{"registrytoken": a.RegistryToken}
			}),
		}),
		Entry("key of a service account", SpecTimeout(rotationTimeout), credentialForm{
			newAccount: serviceAccountKey, write: writeKeys("username", "password"),
		}),
		Entry("for some repositories", SpecTimeout(rotationTimeout), credentialForm{
			newAccount: withPassword, write: writeKeys("username", "password"),
			configure: func(cache *v1alpha3.RegistryCache) {
				cache.Credentials = []v1alpha3.RepositoryCredential{{Repositories: []string{pullers}, SecretReferenceName: *cache.SecretReferenceName}}
				cache.SecretReferenceName = nil
			},
			annotation: component.RepositorySecretNameAnnotation([]string{pullers}),
		}),
	)

	// No cloud responds here, so the cache cannot issue a token. Its reason must not quote the key. The journey about alerts
	// uses a simulated cloud, and the tests of package cacheserver rotate these forms against it.
	It("include access keys, and report why no token can be issued", func(ctx context.Context) {
		key := upstreamsim.Account{Username: "AKIA" + rand.Text()[:16], Password: canaryText()}
		create(ctx, "form-aws", credentialForm{write: writeKeys("accessKeyID", "secretAccessKey")}, key)
		cache := v1alpha3.RegistryCache{
			Upstream: "123456789012.dkr.ecr.eu-central-1.amazonaws.com", SecretReferenceName: new(garden.CredentialsReference),
			HTTP: &v1alpha3.HTTP{TLS: new(false)},
		}
		configureWith(ctx, "form-aws", cache)
		Eventually(ctx, func(g Gomega) {
			g.Expect(credentialsStatus(ctx, g).Message).To(ContainSubstring("issuing failed"))
		}).Should(Succeed())
	}, SpecTimeout(rotationTimeout))

	It("leave no trace outside of Secrets", Label("canary"), func(ctx context.Context) {
		Expect(canaries).NotTo(BeEmpty())
		searched, found := searchTraces(ctx, canaries)
		AddReportEntry("canary", fmt.Sprintf("searched %s", searched))
		Expect(found).To(BeEmpty())
	}, SpecTimeout(rotationTimeout))
})
