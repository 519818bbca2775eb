// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullsecrets_test

import (
	"context"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/larder-project/larder/test/integration/suite"
)

var (
	ctx   = context.Background()
	admin client.Client
	// server is how to connect to the API server as an administrator.
	server *rest.Config
)

func TestPullSecrets(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Pull Secrets Integration Suite")
}

var _ = BeforeSuite(func() {
	suite.Setup()
	SetDefaultEventuallyTimeout(time.Minute) // The controller follows within seconds.

	testEnv := &envtest.Environment{ControlPlaneStartTimeout: suite.ServerTimeout, ControlPlaneStopTimeout: suite.ServerTimeout}
	var err error
	server, err = testEnv.Start()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(testEnv.Stop()).To(Succeed()) })
	admin, err = client.New(server, client.Options{})
	Expect(err).NotTo(HaveOccurred())
})
