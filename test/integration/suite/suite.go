// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package suite sets up suites with a real API server.
package suite

import (
	"context"
	"os"
	"time"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// ServerTimeout limits the start and the stop of an API server.
const ServerTimeout = 5 * time.Minute

// Setup skips the suite if there is no API server, sends logs to Ginkgo, and sets the timeouts of Eventually.
func Setup() {
	ginkgo.GinkgoHelper()
	if os.Getenv("TEST_ASSET_KUBE_APISERVER") == "" && os.Getenv("KUBEBUILDER_ASSETS") == "" {
		ginkgo.Skip("no kube-apiserver: run make test, or set TEST_ASSET_KUBE_APISERVER or KUBEBUILDER_ASSETS")
	}
	logf.SetLogger(zap.New(zap.UseDevMode(true), zap.WriteTo(ginkgo.GinkgoWriter)))
	gomega.SetDefaultEventuallyTimeout(3 * time.Minute)
	gomega.SetDefaultEventuallyPollingInterval(100 * time.Millisecond)
}

// Background runs a function, such as that of a manager, until the end of the test or suite.
func Background(name string, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer ginkgo.GinkgoRecover()
		defer close(stopped)
		gomega.Expect(run(ctx)).To(gomega.Succeed(), name)
	}()
	ginkgo.DeferCleanup(func() {
		stop()
		gomega.Eventually(stopped).Should(gomega.BeClosed(), name)
	})
}
