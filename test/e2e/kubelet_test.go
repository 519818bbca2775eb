// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/test/landscape/evidence"
	"github.com/larder-project/larder/test/landscape/parts"
	"github.com/larder-project/larder/test/landscape/supervisor"
	"github.com/larder-project/larder/test/upstreamsim"
)

// What the kubelet did with a pod whose image is on the node.
const (
	startedAsIs  = "started"
	startedAgain = "started after a pull"
	refusedPull  = "refused"
)

// The namespaces of the pods that pull an image first, and of those that find it on the node.
const kubeletFirst, kubeletSecond = "kubelet-a", "kubelet-b"

var _ = Describe("The kubelet", Label("access-kubelet"), func() {
	It("lets other pods use a private image as its policy and the mode of the cache say", func(ctx context.Context) {
		own, alice := tenant("cache"), tenant("alice", "team-a")
		registry := startTenantRegistry(own, alice)
		var (
			modes  = []v1alpha3.AccessMode{v1alpha3.AccessCluster, v1alpha3.AccessNodes, v1alpha3.AccessPullSecrets}
			caches []v1alpha3.RegistryCache
			hosts  []string
		)
		for _, mode := range modes {
			caches = append(caches, cacheOf(strings.ToLower(string(mode)), mode))
			hosts = append(hosts, caches[len(caches)-1].Upstream)
		}
		configureTenants(ctx, own, caches...)
		newNamespace(ctx, kubeletFirst)
		newNamespace(ctx, kubeletSecond)
		without := func(*corev1.Pod) {}
		right := newPullSecret(ctx, kubeletFirst, "right", alice, hosts...)
		wrong := newPullSecret(ctx, kubeletSecond, "wrong", upstreamsim.Account{Username: alice.Username, Password: "canary-wrong"}, hosts...)
		users := []imageUsers{{"none", right, without}, {"wrong", right, wrong}, {"nobody", without, without}}
		kubelet := readKubeletConfig()
		// Not in a cleanup, which follows AfterEach.
		defer kubelet.restore(context.WithoutCancel(ctx))

		table := []string{
			"| policy | mode | pulled with the right secret, then a pod without | then a pod with a wrong one | first pod without a secret, then a second one |",
			"| --- | --- | --- | --- | --- |",
		}
		byPolicy := map[string]map[imageUse]outcomes{}
		for _, policy := range []string{"NeverVerify", "NeverVerifyPreloadedImages", "AlwaysVerify"} {
			By(policy)
			kubelet.set(ctx, "imagePullCredentialsVerificationPolicy", policy)
			// A kubelet that starts reports pods as not ready until their next probe.
			for _, host := range hosts {
				Eventually(ctx, newCacheClient(ctx, host, nil).status(ctx, get("/"), upstreamsim.Account{})).MustPassRepeatedly(20).Should(Equal(http.StatusOK))
				expectReady(ctx, host)
			}
			found := useImages(ctx, registry, strings.ToLower(policy), caches, users)
			byPolicy[policy] = found
			for _, mode := range modes {
				none, wrong, nobody := found[imageUse{mode, "none"}], found[imageUse{mode, "wrong"}], found[imageUse{mode, "nobody"}]
				table = append(table, fmt.Sprintf("| `%s` | `%s` | %s | %s | %s, then %s |", policy, mode, none.second, wrong.second, nobody.first, nobody.second))
			}
		}
		AddReportEntry("access-kubelet", "\n"+strings.Join(table, "\n"))
		for policy, found := range byPolicy {
			for _, mode := range modes {
				withSecret := outcomes{startedAgain, startedAgain}
				switch {
				case policy == "NeverVerify":
					withSecret.second = startedAsIs
				case mode == v1alpha3.AccessPullSecrets:
					withSecret.second = refusedPull
				}
				withoutSecret := outcomes{startedAgain, startedAsIs}
				if mode == v1alpha3.AccessPullSecrets {
					withoutSecret = outcomes{refusedPull, refusedPull}
				}
				for name, expected := range map[string]outcomes{"none": withSecret, "wrong": withSecret, "nobody": withoutSecret} {
					Expect(found[imageUse{mode, name}]).To(Equal(expected), "%s %s %s", policy, mode, name)
				}
			}
		}
	}, SpecTimeout(journeyTimeout))
})

// imageUsers are two pods with the same image: the first one pulls it, and the second one finds it on the node. The
// functions add their pull secrets.
type imageUsers struct {
	name          string
	first, second func(*corev1.Pod)
}

// imageUse is the use of an image by two pods through a cache.
type imageUse struct {
	mode  v1alpha3.AccessMode
	users string
}

// outcomes are what the kubelet did with the two pods.
type outcomes struct{ first, second string }

// useImages lets all users start with an image of their own from each of the caches, whose repository ends in a suffix.
func useImages(ctx context.Context, registry *tenantRegistry, suffix string, caches []v1alpha3.RegistryCache, users []imageUsers) map[imageUse]outcomes {
	GinkgoHelper()
	type pods struct{ first, second *corev1.Pod }
	created := map[imageUse]pods{}
	for _, cache := range caches {
		for _, u := range users {
			name := u.name + "-" + strings.ToLower(string(cache.Access.Mode))
			image := registry.push("team-a/" + name + "-" + suffix).byTag(cache.Upstream)
			created[imageUse{cache.Access.Mode, u.name}] = pods{
				first:  tenantPod(kubeletFirst, "first-"+name, image, u.first, ifNotPresent),
				second: tenantPod(kubeletSecond, "second-"+name, image, u.second, ifNotPresent),
			}
		}
	}
	found := map[imageUse]outcomes{}
	for _, p := range created {
		Expect(c.Create(ctx, p.first)).To(Succeed())
	}
	for use, p := range created {
		found[use] = outcomes{first: outcome(ctx, p.first)}
	}
	for _, p := range created {
		Expect(c.Create(ctx, p.second)).To(Succeed())
	}
	for use, p := range created {
		found[use] = outcomes{found[use].first, outcome(ctx, p.second)}
		Expect(evidence.Delete(ctx, c, p.first)).To(Succeed())
		Expect(evidence.Delete(ctx, c, p.second)).To(Succeed())
	}
	return found
}

func ifNotPresent(pod *corev1.Pod) {
	pod.Spec.Containers[0].ImagePullPolicy = corev1.PullIfNotPresent
}

// outcome waits until the kubelet has decided about a pod.
func outcome(ctx context.Context, pod *corev1.Pod) string {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		g.Expect(c.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
		g.Expect(evidence.Running(pod) || strings.HasPrefix(evidence.WaitingFor(pod), "ErrImage") || strings.HasPrefix(evidence.WaitingFor(pod), "ImagePullBackOff")).
			To(BeTrue(), evidence.WaitingFor(pod))
	}).Should(Succeed(), pod.Name)
	if !evidence.Running(pod) {
		return refusedPull
	}
	var pulled []string
	Eventually(ctx, func(g Gomega) {
		events := &corev1.EventList{}
		g.Expect(c.List(ctx, events, client.InNamespace(pod.Namespace))).To(Succeed())
		pulled = nil
		for _, event := range events.Items {
			if event.InvolvedObject.UID == pod.UID && event.Reason == "Pulled" {
				pulled = append(pulled, event.Message)
			}
		}
		g.Expect(pulled).NotTo(BeEmpty())
	}).Should(Succeed(), pod.Name)
	if strings.Contains(pulled[0], "already present") {
		return startedAsIs
	}
	return startedAgain
}

// kubeletConfig is the configuration of the kubelet. A journey restores it before it configures the Shoot again: some
// policies do not let pods use the images that the landscape has imported.
type kubeletConfig struct{ original []byte }

func readKubeletConfig() kubeletConfig {
	GinkgoHelper()
	content, err := os.ReadFile(kubeletConfigFile())
	Expect(err).NotTo(HaveOccurred())
	return kubeletConfig{original: content}
}

func (k kubeletConfig) restore(ctx context.Context) {
	GinkgoHelper()
	k.restart(ctx, k.original)
}

// set restarts the kubelet with another value of a field.
func (k kubeletConfig) set(ctx context.Context, field string, value any) {
	GinkgoHelper()
	config := map[string]any{}
	Expect(yaml.Unmarshal(k.original, &config)).To(Succeed())
	config[field] = value
	changed, err := yaml.Marshal(config)
	Expect(err).NotTo(HaveOccurred())
	k.restart(ctx, changed)
}

func (k kubeletConfig) restart(ctx context.Context, content []byte) {
	GinkgoHelper()
	Expect(here.StopProcess(ctx, parts.Kubelet)).To(Succeed())
	Expect(os.WriteFile(kubeletConfigFile(), content, 0o600)).To(Succeed())
	Expect(here.StartProcess(ctx, parts.Kubelet)).To(Succeed())
	Eventually(ctx, func(g Gomega) {
		processes, err := here.Processes(ctx)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(processes).To(ContainElement(And(HaveField("Name", parts.Kubelet), HaveField("State", supervisor.Ready))))
		list := &corev1.NodeList{}
		g.Expect(c.List(ctx, list)).To(Succeed())
		g.Expect(list.Items).To(HaveEach(HaveField("Status.Conditions", ContainElement(And(
			HaveField("Type", corev1.NodeReady), HaveField("Status", corev1.ConditionTrue))))))
	}).Should(Succeed())
}

func kubeletConfigFile() string { return filepath.Join(here.ConfigDir(), "kubelet.yaml") }
