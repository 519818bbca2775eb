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
	"github.com/gardener/gardener/pkg/client/kubernetes"
	"github.com/gardener/gardener/pkg/component/extensions/crds"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/larder-project/larder/pkg/webhook/osc"
	"github.com/larder-project/larder/test/integration/suite"
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
	oscWebhook, err := osc.New(mgr)
	Expect(err).NotTo(HaveOccurred())
	mgr.GetWebhookServer().Register(oscWebhook.Path, oscWebhook.Webhook)

	By("registering the webhook like the extension library in a seed")
	configs, _, err := extensionswebhook.BuildWebhookConfigs(
		[]*extensionswebhook.Webhook{oscWebhook}, testClient, "", "registry-cache", false, 443, extensionswebhook.ModeURL,
		fmt.Sprintf("%s:%d", serving.LocalServingHost, serving.LocalServingPort), serving.LocalServingCAData, false,
	)
	Expect(err).NotTo(HaveOccurred())
	Expect(testClient.Create(ctx, configs.MutatingWebhookConfig)).To(Succeed())

	suite.Background("manager", mgr.Start)
	Eventually(func() error { return mgr.GetWebhookServer().StartedChecker()(nil) }).Should(Succeed())
})
