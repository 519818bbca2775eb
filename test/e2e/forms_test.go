// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
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
	name string
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

	// rotate rotates from each form to the next as in the guide, with pulls running.
	rotate := func(ctx context.Context, forms ...credentialForm) {
		GinkgoHelper()
		accounts := make([]upstreamsim.Account, len(forms))
		name := func(i int) string { return fmt.Sprintf("form-%d", i) }
		for i, form := range forms {
			accounts[i] = form.newAccount()
			create(ctx, name(i), form, accounts[i])
		}
		use := func(i int) {
			GinkgoHelper()
			cache := garden.Cache(garden.PrivateHost)
			cache.HTTP = &v1alpha3.HTTP{TLS: new(false)}
			if forms[i].configure != nil {
				forms[i].configure(&cache)
			}
			configureWith(ctx, name(i), cache)
			waitFor(ctx, cmp.Or(forms[i].annotation, component.SecretNameAnnotation), name(i))
		}

		mayPull(accounts[0])
		use(0)
		before := cachePod(ctx)
		load := startPulls(ctx)
		load.awaitPulls(ctx, 3*pullsPerSecond)
		var report []string
		for i := 1; i < len(forms); i++ {
			By("rotating to " + forms[i].name)
			mayPull(accounts[i-1], accounts[i])
			began := time.Now()
			use(i)
			report = append(report, fmt.Sprintf("%s after %s", forms[i].name, time.Since(began).Round(time.Second)))
			mayPull(accounts[i])
			Expect(c.Delete(ctx, projectSecret(name(i-1)))).To(Succeed())
			load.awaitPulls(ctx, 5*pullsPerSecond)
		}
		result := load.stop()
		AddReportEntry("rotation", fmt.Sprintf("%d pulls, %d failed; in use: %s", result.pulls, len(result.failures), strings.Join(report, ", ")))
		Expect(result.failures).To(BeEmpty())
		Expect(cachePod(ctx).UID).To(Equal(before.UID))
	}
	basic := credentialForm{
		name: "kubernetes.io/basic-auth", newAccount: withPassword,
		write: func(secret *corev1.Secret, account upstreamsim.Account) {
			secret.Type = corev1.SecretTypeBasicAuth
			writeKeys("username", "password")(secret, account)
		},
	}

	It("are rotated from one to the next as in the guide, without a failed pull", func(ctx context.Context) {
		rotate(ctx,
			basic,
			credentialForm{
				name: "other keys", newAccount: withPassword, write: writeKeys("user", "token"),
				configure: func(cache *v1alpha3.RegistryCache) { cache.UsernameKey, cache.PasswordKey = new("user"), new("token") },
			},
			credentialForm{
				name: "Docker configuration", newAccount: withPassword,
				write: writeDocker(func(a upstreamsim.Account) map[string]string {
					return map[string]string{"username": a.Username, "password": a.Password}
				}),
			},
			credentialForm{
				name: "identity token",
				newAccount: func() upstreamsim.Account {
					return upstreamsim.Account{Username: "robot", IdentityToken: canaryText()}
				},
				write: writeDocker(func(a upstreamsim.Account) map[string]string {
					return map[string]string{"username": a.Username, "identitytoken": a.IdentityToken}
				}),
			},
			credentialForm{
				name: "registry token",
				newAccount: func() upstreamsim.Account {
					return upstreamsim.Account{Username: "robot", RegistryToken: canaryText()}
				},
				write: writeDocker(func(a upstreamsim.Account) map[string]string {
					return map[string]string{"registrytoken": a.RegistryToken}
				}),
			},
			credentialForm{name: "key of a service account", newAccount: serviceAccountKey, write: writeKeys("username", "password")},
			basic,
		)
	}, SpecTimeout(journeyTimeout))

	It("are rotated for some repositories, without a failed pull", func(ctx context.Context) {
		form := credentialForm{
			name: "the next one", newAccount: withPassword, write: writeKeys("username", "password"),
			configure: func(cache *v1alpha3.RegistryCache) {
				cache.Credentials = []v1alpha3.RepositoryCredential{{Repositories: []string{pullers}, SecretReferenceName: *cache.SecretReferenceName}}
				cache.SecretReferenceName = nil
			},
			annotation: component.RepositorySecretNameAnnotation([]string{pullers}),
		}
		rotate(ctx, form, form)
	}, SpecTimeout(rotationTimeout))

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
