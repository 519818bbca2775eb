// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package webhook_test calls the OperatingSystemConfig webhook through a real kube-apiserver.
package webhook_test

import (
	"context"
	"fmt"
	"testing"

	extensionswebhook "github.com/gardener/gardener/extensions/pkg/webhook"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	"github.com/gardener/gardener/pkg/component/extensions/crds"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/larder-project/larder/pkg/webhook/osc"
	"github.com/larder-project/larder/pkg/webhook/osc/osctest"
	"github.com/larder-project/larder/test/integration/suite"
)

const (
	// before and after name the registrations of other webhooks that the API server calls before and after ours.
	before, after = "before", "zafter"

	peerToPeer, peerForAll, rewriter = "peer-to-peer", "peer-for-all", "rewriter"
)

var (
	ctx        = context.Background()
	testClient client.Client
)

func TestWebhook(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "OperatingSystemConfig Webhook Integration Suite")
}

var _ = BeforeSuite(func() {
	suite.Setup()

	testEnv := &envtest.Environment{ControlPlaneStartTimeout: suite.ServerTimeout, ControlPlaneStopTimeout: suite.ServerTimeout}
	config, err := testEnv.Start()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(testEnv.Stop()).To(Succeed()) })

	testClient, err = client.New(config, client.Options{Scheme: kubernetes.SeedScheme})
	Expect(err).NotTo(HaveOccurred())
	extensionCRDs, err := crds.NewCRD(testClient, true, true)
	Expect(err).NotTo(HaveOccurred())
	Expect(extensionCRDs.Deploy(ctx)).To(Succeed())
	Expect(extensionCRDs.Wait(ctx)).To(Succeed())

	serving := testEnv.WebhookInstallOptions
	mgr, err := manager.New(config, manager.Options{
		Scheme:  kubernetes.SeedScheme,
		Metrics: server.Options{BindAddress: "0"},
		WebhookServer: webhook.NewServer(webhook.Options{
			Host: serving.LocalServingHost, Port: serving.LocalServingPort, CertDir: serving.LocalServingCertDir,
		}),
	})
	Expect(err).NotTo(HaveOccurred())
	caches, err := osc.NewForCaches(mgr)
	Expect(err).NotTo(HaveOccurred())
	mirrors, err := osc.NewForMirrors(mgr)
	Expect(err).NotTo(HaveOccurred())
	register := func(name string, adjust func(*admissionregistrationv1.MutatingWebhook), webhooks ...*extensionswebhook.Webhook) {
		GinkgoHelper()
		for _, webhook := range webhooks {
			mgr.GetWebhookServer().Register(webhook.Path, webhook.Webhook)
		}
		configs, _, err := extensionswebhook.BuildWebhookConfigs(
			webhooks, testClient, "", name, false, 443, extensionswebhook.ModeURL,
			fmt.Sprintf("%s:%d", serving.LocalServingHost, serving.LocalServingPort), serving.LocalServingCAData, false,
		)
		Expect(err).NotTo(HaveOccurred())
		for i := range configs.MutatingWebhookConfig.Webhooks {
			adjust(&configs.MutatingWebhookConfig.Webhooks[i])
		}
		Expect(testClient.Create(ctx, configs.MutatingWebhookConfig)).To(Succeed())
	}

	By("Register the webhooks as the controller does in a seed")
	register("registry-cache", osc.Adjust, caches, mirrors)
	// The API server calls webhooks in the order of their names.
	for _, name := range []string{before, after} {
		register(name, func(*admissionregistrationv1.MutatingWebhook) {},
			otherWebhook(mgr, name, peerToPeer, osctest.PeerToPeer),
			otherWebhook(mgr, name, peerForAll, osctest.PeerForAll),
			otherWebhook(mgr, name, rewriter, osctest.Rewriter),
		)
	}

	suite.Background("manager", mgr.Start)
	Eventually(func() error { return mgr.GetWebhookServer().StartedChecker()(nil) }).Should(Succeed())
})

// otherWebhook returns a webhook of another extension, for namespaces with the label of [otherLabel].
func otherWebhook(mgr manager.Manager, order, kind string, mutate func(*extensionsv1alpha1.OperatingSystemConfig)) *extensionswebhook.Webhook {
	GinkgoHelper()
	webhook, err := extensionswebhook.New(mgr, extensionswebhook.Args{
		Name:              kind,
		Path:              "/webhooks/" + order + "/" + kind,
		Target:            extensionswebhook.TargetSeed,
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{otherLabel(order, kind): "true"}},
		Mutators: map[extensionswebhook.Mutator][]extensionswebhook.Type{
			&mutator{mutate}: {{Obj: &extensionsv1alpha1.OperatingSystemConfig{}}},
		},
	})
	Expect(err).NotTo(HaveOccurred())
	return webhook
}

func otherLabel(order, kind string) string {
	return "test.larder.dev/" + order + "-" + kind
}

type mutator struct {
	mutate func(*extensionsv1alpha1.OperatingSystemConfig)
}

func (m *mutator) Mutate(_ context.Context, object, _ client.Object) error {
	osc, ok := object.(*extensionsv1alpha1.OperatingSystemConfig)
	if !ok {
		return fmt.Errorf("unexpected object of type %T", object)
	}
	m.mutate(osc)
	return nil
}
