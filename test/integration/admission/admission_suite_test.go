// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package admission_test calls the admission component, run as by its command
// line, through a real gardener-apiserver with all of its own admission plugins.
package admission_test

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gardener/gardener/pkg/client/kubernetes"
	gardenerenvtest "github.com/gardener/gardener/test/envtest"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/larder-project/larder/cmd/gardener-extension-registry-cache-admission/app"
)

//go:embed testdata/garden.yaml
var garden []byte

var (
	ctx        = context.Background()
	testClient client.Client
)

func TestAdmission(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Admission Integration Suite")
}

var _ = BeforeSuite(func() {
	if os.Getenv("TEST_ASSET_KUBE_APISERVER") == "" && os.Getenv("KUBEBUILDER_ASSETS") == "" {
		Skip("neither TEST_ASSET_KUBE_APISERVER nor KUBEBUILDER_ASSETS says where a kube-apiserver is; make test does")
	}
	logf.SetLogger(zap.New(zap.UseDevMode(true), zap.WriteTo(GinkgoWriter)))

	testEnv := &gardenerenvtest.GardenerTestEnvironment{
		GardenerAPIServer: &gardenerenvtest.GardenerAPIServer{Args: []string{"--log-level=error"}},
	}
	config, err := testEnv.Start()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(testEnv.Stop()).To(Succeed()) })
	config.QPS = -1
	testClient, err = client.New(config, client.Options{Scheme: kubernetes.GardenScheme})
	Expect(err).NotTo(HaveOccurred())
	prepareGarden()

	user, err := testEnv.ControlPlane.AddUser(envtest.User{Name: "admission", Groups: []string{"system:masters"}}, nil)
	Expect(err).NotTo(HaveOccurred())
	kubeconfig, err := user.KubeConfig()
	Expect(err).NotTo(HaveOccurred())
	startAdmission(kubeconfig)
})

// prepareGarden creates what a Shoot refers to.
func prepareGarden() {
	GinkgoHelper()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(garden), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return
		}
		Expect(err).NotTo(HaveOccurred())
		// gardener-apiserver's admission plugins learn of earlier objects a moment later.
		Eventually(func() error { return testClient.Create(ctx, object) }).WithTimeout(30 * time.Second).Should(Succeed())
	}
}

// startAdmission runs the program until the end of the suite, and returns when
// its webhook is called. It manages its certificates as it does in a garden.
func startAdmission(kubeconfig []byte) {
	GinkgoHelper()
	directory := GinkgoT().TempDir()
	kubeconfigFile := filepath.Join(directory, "kubeconfig.yaml")
	Expect(os.WriteFile(kubeconfigFile, kubeconfig, 0o600)).To(Succeed())
	port := freePort()
	cmd := app.NewCommand()
	cmd.SetArgs([]string{
		"--kubeconfig=" + kubeconfigFile,
		"--leader-election=false",
		"--webhook-config-mode=url",
		fmt.Sprintf("--webhook-config-url=127.0.0.1:%d", port),
		"--webhook-config-namespace=garden",
		"--webhook-config-server-host=127.0.0.1",
		fmt.Sprintf("--webhook-config-server-port=%d", port),
		"--webhook-config-cert-dir=" + filepath.Join(directory, "certificates"),
		"--metrics-bind-address=0",
		"--health-bind-address=0",
	})

	runCtx, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer GinkgoRecover()
		defer close(stopped)
		Expect(cmd.ExecuteContext(runCtx)).To(Succeed())
	}()
	DeferCleanup(func() {
		stop()
		Eventually(stopped).WithTimeout(30 * time.Second).Should(BeClosed())
	})
	Eventually(func() error { return testClient.Create(ctx, newShoot(caches(`{}`)), client.DryRunAll) }).
		WithTimeout(30 * time.Second).Should(beDenied("spec.extensions[0].providerConfig.caches[0].upstream", "Required value"))
}

func freePort() int {
	GinkgoHelper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	defer func() { Expect(listener.Close()).To(Succeed()) }()
	return listener.Addr().(*net.TCPAddr).Port
}
