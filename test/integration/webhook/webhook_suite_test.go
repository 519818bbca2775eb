// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package webhook_test calls the OperatingSystemConfig webhook through a real kube-apiserver.
package webhook_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	extensionswebhook "github.com/gardener/gardener/extensions/pkg/webhook"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	"github.com/gardener/gardener/pkg/component/extensions/crds"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/larder-project/larder/pkg/webhook/osc"
)

// serverTimeout is how long a server may take to start or to stop.
const serverTimeout = 5 * time.Minute

var (
	ctx        = context.Background()
	testClient client.Client
)

func TestWebhook(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "OperatingSystemConfig Webhook Integration Suite")
}

var _ = BeforeSuite(func() {
	if os.Getenv("TEST_ASSET_KUBE_APISERVER") == "" && os.Getenv("KUBEBUILDER_ASSETS") == "" {
		Skip("neither TEST_ASSET_KUBE_APISERVER nor KUBEBUILDER_ASSETS says where a kube-apiserver is; make test does")
	}
	logf.SetLogger(zap.New(zap.UseDevMode(true), zap.WriteTo(GinkgoWriter)))

	SetDefaultEventuallyTimeout(3 * time.Minute)
	SetDefaultEventuallyPollingInterval(100 * time.Millisecond)

	testEnv := &envtest.Environment{ControlPlaneStartTimeout: serverTimeout, ControlPlaneStopTimeout: serverTimeout}
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

	By("registering the webhook as the extension library does in a seed")
	configs, _, err := extensionswebhook.BuildWebhookConfigs(
		[]*extensionswebhook.Webhook{oscWebhook}, testClient, "", "registry-cache", false, 443, extensionswebhook.ModeURL,
		fmt.Sprintf("%s:%d", serving.LocalServingHost, serving.LocalServingPort), serving.LocalServingCAData, false,
	)
	Expect(err).NotTo(HaveOccurred())
	Expect(testClient.Create(ctx, configs.MutatingWebhookConfig)).To(Succeed())

	mgrCtx, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer GinkgoRecover()
		defer close(stopped)
		Expect(mgr.Start(mgrCtx)).To(Succeed())
	}()
	DeferCleanup(func() {
		stop()
		Eventually(stopped).Should(BeClosed())
	})
	Eventually(func() error { return mgr.GetWebhookServer().StartedChecker()(nil) }).Should(Succeed())
})
