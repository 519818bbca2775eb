// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/pkg/pullsecret"
	"github.com/larder-project/larder/test/landscape/evidence"
	"github.com/larder-project/larder/test/landscape/image"
	"github.com/larder-project/larder/test/landscape/parts"
	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("Accounts", Label("access-accounts"), func() {
	It("let a client in a pod pull with nothing but its Secret, also while the password is rotated", func(ctx context.Context) {
		const namespace, other, stranger = "accounts-ci", "accounts-scan", "accounts-none"
		var (
			host = tenantHost("accounts")
			own  = tenant("cache")
			key  = client.ObjectKey{Namespace: namespace, Name: cacheKey(host).Name + ".builder"}
		)
		registry := startTenantRegistry(own)
		for _, name := range []string{namespace, other, stranger} {
			newNamespace(ctx, name)
		}
		cache := cacheOf("accounts", v1alpha3.AccessNodes)
		cache.Accounts = []v1alpha3.Account{{Name: "builder", Namespaces: []string{namespace, other}, Repositories: []string{"team-a", "library/tool"}}}
		configureTenants(ctx, own, cache)
		allowed := []tenantImage{registry.push("team-a"), registry.push("team-a/app"), registry.push("team-a/app/base"), registry.push("library/tool")}
		refused := []tenantImage{registry.push("team-ab"), registry.push("team-ab/app"), registry.push("library/tools"), registry.push("library"), registry.push(publicRepository)}

		account := promotePassword(ctx, host)
		secret := &corev1.Secret{}
		Eventually(ctx, func() error { return c.Get(ctx, key, secret) }).Should(Succeed())
		Expect(string(secret.Data["password"])).To(Equal(account.Password))
		for name, matcher := range map[string]func(error) bool{other: func(err error) bool { return err == nil }, stranger: apierrors.IsNotFound} {
			Expect(c.Get(ctx, client.ObjectKey{Namespace: name, Name: key.Name}, &corev1.Secret{})).To(Satisfy(matcher), name)
		}

		By("pulling with crane in a pod")
		pod := cranePod(ctx, key)
		DeferCleanup(evidence.Delete, c, pod)
		Expect(evidence.Run(ctx, c, pod)).To(Succeed())
		crane := craneClient{pod: pod, service: string(secret.Data["registry"])}
		Expect(crane.service).To(Equal(cacheKey(host).Name + ".kube-system.svc:5000"))
		crane.expectAccess(ctx, allowed, refused)
		dial, err := evidence.PodDialer(ctx, here, pod)
		Expect(err).NotTo(HaveOccurred())
		fromPod := newCacheClient(ctx, host, dial)
		fromPod.expectContent(ctx, allowed[0], account)
		fromPod.expectNoContent(ctx, allowed[0], upstreamsim.Account{}, http.StatusUnauthorized)
		fromPod.expectNoContent(ctx, allowed[0], upstreamsim.Account{Username: account.Username, Password: "canary-wrong"}, http.StatusForbidden)
		fromPod.expectNoContent(ctx, refused[0], account, http.StatusForbidden)
		for _, request := range registry.requests.Requests() {
			Expect(request.User).To(BeElementOf("", own.Username), "the registry does not see the account: %v", request)
		}

		By("removing a namespace, which rotates the password, with pulls running")
		load := crane.startPulls(ctx, allowed)
		load.awaitPulls(ctx, 5)
		cache.Accounts[0].Namespaces = []string{namespace}
		configureTenants(ctx, own, cache)
		expectGone(ctx, &corev1.Secret{}, client.ObjectKey{Namespace: other, Name: key.Name})
		next := promotePassword(ctx, host)
		Expect(next.Password).NotTo(Equal(account.Password))
		Eventually(ctx, func(g Gomega) {
			g.Expect(c.Get(ctx, key, secret)).To(Succeed())
			g.Expect(string(secret.Data["password"])).To(Equal(next.Password))
		}).Should(Succeed())
		fromPod.expectContent(ctx, allowed[0], account)
		fromPod.expectContent(ctx, allowed[0], next)
		Eventually(ctx, func() (string, error) { return crane.run(ctx, "auth", "get", crane.service) }).Should(ContainSubstring(next.Password), "the kubelet has updated the file")
		load.awaitPulls(ctx, 5)
		result := load.stop()
		AddReportEntry("access-accounts", fmt.Sprintf("rotation: %d pulls in %s, %d failed", result.pulls, result.duration.Round(time.Second), len(result.failures)))
		Expect(result.failures).To(BeEmpty())

		By("removing the account")
		cache.Accounts = nil
		configureTenants(ctx, own, cache)
		expectGone(ctx, &corev1.Secret{}, key)
		Eventually(ctx, fromPod.status(ctx, head("/v2/team-a/manifests/"+allowed[0].digest), next)).Should(BeElementOf(http.StatusUnauthorized, http.StatusForbidden))
	}, SpecTimeout(journeyTimeout))
})

// promotePassword waits until a cache accepts the next password of its account, and lets clients get it now instead of
// after the minutes that kubelets may take. It returns the account with that password.
func promotePassword(ctx context.Context, host string) upstreamsim.Account {
	GinkgoHelper()
	const state = "state.json"
	key := cacheKey(host)
	key.Name = pullsecret.AccountsSecretName(key.Name)
	secret, ledger := &corev1.Secret{}, map[string]map[string]any{}
	account := upstreamsim.Account{Username: "larder.builder"}
	read := func(g Gomega) map[string]any {
		g.Expect(c.Get(ctx, key, secret)).To(Succeed())
		ledger = map[string]map[string]any{}
		g.Expect(json.Unmarshal(secret.Data[state], &ledger)).To(Succeed())
		next, ok := ledger["builder"]["next"].(map[string]any)
		g.Expect(ok).To(BeTrue(), "no next password")
		account.Password, _ = next["text"].(string)
		g.Expect(account.Password).NotTo(BeEmpty())
		return next
	}
	Eventually(ctx, func(g Gomega) { read(g) }).Should(Succeed())
	Eventually(ctx, newCacheClient(ctx, host, nil).status(ctx, get("/v2/"), account)).Should(Equal(http.StatusOK))
	Eventually(ctx, func(g Gomega) {
		read(g)["since"] = time.Now().Add(-time.Hour).UTC()
		content, err := json.Marshal(ledger)
		g.Expect(err).NotTo(HaveOccurred())
		secret.Data[state] = content
		g.Expect(c.Update(ctx, secret)).To(Succeed())
	}).Should(Succeed())
	return account
}

// craneClient is crane in a pod, for the Service of a cache.
type craneClient struct {
	pod     *corev1.Pod
	service string
}

func (c craneClient) run(ctx context.Context, args ...string) (string, error) {
	return evidence.Execute(ctx, here, c.pod, append([]string{"/" + parts.Crane}, args...)...)
}

// expectAccess expects that crane can read some images, and nothing of others.
func (c craneClient) expectAccess(ctx context.Context, allowed, refused []tenantImage) {
	GinkgoHelper()
	for _, image := range allowed {
		Expect(c.run(ctx, "digest", image.byTag(c.service))).To(ContainSubstring(image.digest))
		Expect(c.run(ctx, "validate", "--remote", image.byDigest(c.service))).To(ContainSubstring("PASS"))
		Expect(c.run(ctx, "ls", c.service+"/"+image.repository)).To(ContainSubstring(image.tag))
	}
	commands := [][]string{{"catalog", c.service}}
	for _, image := range refused {
		commands = append(commands,
			[]string{"validate", "--remote", image.byTag(c.service)},
			[]string{"manifest", image.byDigest(c.service)},
			[]string{"ls", c.service + "/" + image.repository})
	}
	for _, args := range commands {
		_, err := c.run(ctx, args...)
		// Without and with the body of the response.
		Expect(err).To(MatchError(Or(ContainSubstring("403"), ContainSubstring("DENIED"))), strings.Join(args, " "))
	}
}

// startPulls repeatedly pulls images by tag.
func (c craneClient) startPulls(ctx context.Context, images []tenantImage) *load {
	GinkgoHelper()
	l := &load{begun: time.Now()}
	ctx, l.cancel = context.WithCancel(ctx)
	DeferCleanup(l.cancel)
	l.running.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			uncancelled, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			_, err := c.run(uncancelled, "validate", "--remote", images[i%len(images)].byTag(c.service))
			stop()
			l.pulls.Add(1)
			if err != nil {
				l.fail(err)
			}
		}
	})
	return l
}

// cranePod returns a pod with crane that trusts only the CA in the Secret of an account. Its own process, a registry in
// memory, only keeps it running.
func cranePod(ctx context.Context, secret client.ObjectKey) *corev1.Pod {
	GinkgoHelper()
	crane, err := image.New(parts.OwnPath(here.Repository(), parts.Crane), nil)
	Expect(err).NotTo(HaveOccurred())
	Expect(crane.Import(ctx, here)).To(Succeed())
	pod := evidence.Pod("crane", crane.Reference)
	pod.Namespace = secret.Namespace
	container := &pod.Spec.Containers[0]
	container.Args = []string{"registry", "serve", "--address=127.0.0.1:1338"}
	container.Env = []corev1.EnvVar{{Name: "DOCKER_CONFIG", Value: "/registry"}, {Name: "SSL_CERT_DIR", Value: "/registry"}}
	container.VolumeMounts = []corev1.VolumeMount{{Name: "registry", MountPath: "/registry", ReadOnly: true}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "registry", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
		SecretName: secret.Name,
		Items:      []corev1.KeyToPath{{Key: corev1.DockerConfigJsonKey, Path: "config.json"}, {Key: "ca.crt", Path: "ca.crt"}},
	}}}}
	return pod
}
