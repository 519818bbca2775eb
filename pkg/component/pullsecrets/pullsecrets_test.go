// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullsecrets_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	vpaautoscalingv1 "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"
	"k8s.io/client-go/kubernetes/scheme"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/yaml"

	"github.com/larder-project/larder/pkg/component/pullsecrets"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/pullsecret"
)

func TestPullSecrets(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Pull Secrets Component Suite")
}

func values() pullsecrets.Values {
	material := credentials.Static(credentials.Credential{Username: "alice", Password: "secret"})
	return pullsecrets.Values{
		Image:                 "ghcr.io/larder-project/registry-cache-pull-secrets:v1.2.3",
		VerticalPodAutoscaler: true,
		Feed: pullsecret.Feed{Secrets: []pullsecret.Secret{{
			Name: "registry-pulls", Namespaces: []string{"team-a"}, NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"pulls": "private"}},
			AddToDefaultServiceAccounts: true,
			Registries: []pullsecret.Registry{{
				Upstream: "docker.io", Host: "registry-1.docker.io",
				Credentials: []pullsecret.Credential{{Name: "hub", Material: &material}},
			}},
		}}},
	}
}

func objects(values pullsecrets.Values) []client.Object {
	GinkgoHelper()
	all, err := pullsecrets.Objects(values)
	Expect(err).NotTo(HaveOccurred())
	return all
}

func find[T client.Object](values pullsecrets.Values) T {
	GinkgoHelper()
	for _, object := range objects(values) {
		if found, ok := object.(T); ok {
			return found
		}
	}
	Fail("no such object")
	panic("unreachable")
}

var _ = Describe("Pull secrets", func() {
	It("builds all objects", func() {
		rendered := render(objects(values()))
		golden := filepath.Join("testdata", "all.yaml")
		if os.Getenv("UPDATE_GOLDEN") != "" {
			Expect(os.MkdirAll("testdata", 0o755)).To(Succeed())
			Expect(os.WriteFile(golden, rendered, 0o644)).To(Succeed())
		}
		expected, err := os.ReadFile(golden)
		Expect(err).NotTo(HaveOccurred())
		Expect(string(rendered)).To(Equal(string(expected)))
	})

	It("builds all objects for accounts", func() {
		accounts := values()
		accounts.Feed = pullsecret.Feed{CABundle: "example CA", Accounts: []pullsecret.Account{
			{
				Cache: "registry-docker-io", Name: "builder", SecretName: "registry-docker-io.builder", Namespaces: []string{"ci"}, Repositories: []string{"library"},
				Registry: "registry-docker-io.kube-system.svc:5000", RotationPeriod: metav1.Duration{Duration: 24 * time.Hour},
			},
			{
				Cache: "registry-docker-io", Name: "scanner", SecretName: "registry-docker-io.scanner", Namespaces: []string{"scan"},
				Registry: "registry-docker-io.kube-system.svc:5000", RotationPeriod: metav1.Duration{Duration: time.Hour},
			},
		}}
		Expect(pullsecrets.FeedOf(objects(accounts))).To(Equal(accounts.Feed))
		rendered := render(objects(accounts))
		golden := filepath.Join("testdata", "accounts.yaml")
		if os.Getenv("UPDATE_GOLDEN") != "" {
			Expect(os.WriteFile(golden, rendered, 0o644)).To(Succeed())
		}
		expected, err := os.ReadFile(golden)
		Expect(err).NotTo(HaveOccurred())
		Expect(string(rendered)).To(Equal(string(expected)))
	})

	It("restricts the pod", func() {
		evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
		Expect(err).NotTo(HaveOccurred())
		template := find[*appsv1.StatefulSet](values()).Spec.Template
		level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
		for _, result := range evaluator.EvaluatePod(level, &template.ObjectMeta, &template.Spec) {
			Expect(result.Allowed).To(BeTrue(), result.ForbiddenReason+": "+result.ForbiddenDetail)
		}
	})

	It("does not restart the pod when the feed changes", func() {
		before := find[*appsv1.StatefulSet](values())
		changed := values()
		changed.Feed = pullsecret.Feed{}
		Expect(find[*appsv1.StatefulSet](changed)).To(Equal(before))
	})

	It("reads the feed of its objects", func() {
		Expect(pullsecrets.FeedOf(objects(values()))).To(Equal(values().Feed))
		Expect(pullsecrets.FeedOf(nil)).To(Equal(pullsecret.Feed{}))
	})

	It("has no autoscaler unless the Shoot has vertical pod autoscaling", func() {
		without := values()
		without.VerticalPodAutoscaler = false
		Expect(objects(without)).To(HaveLen(len(objects(values())) - 1))
	})
})

func render(objects []client.Object) []byte {
	GinkgoHelper()
	known := runtime.NewScheme()
	Expect(scheme.AddToScheme(known)).To(Succeed())
	Expect(vpaautoscalingv1.AddToScheme(known)).To(Succeed())
	var out bytes.Buffer
	for _, object := range objects {
		gvk, err := apiutil.GVKForObject(object, known)
		Expect(err).NotTo(HaveOccurred())
		object.GetObjectKind().SetGroupVersionKind(gvk)
		if secret, ok := object.(*corev1.Secret); ok {
			secret.StringData = map[string]string{}
			for key, value := range secret.Data {
				secret.StringData[key] = string(value)
			}
			secret.Data = nil
		}
		data, err := yaml.Marshal(object)
		Expect(err).NotTo(HaveOccurred())
		out.WriteString("---\n")
		out.Write(data)
	}
	return out.Bytes()
}
