// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package admission_test tests the admission component, which runs as a process, through a real kube-apiserver and a
// real gardener-apiserver with all of its own admission plugins.
package admission_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/gardener/gardener/pkg/client/kubernetes"
	gardenerenvtest "github.com/gardener/gardener/test/envtest"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/larder-project/larder/cmd/gardener-extension-registry-cache-admission/app"
	"github.com/larder-project/larder/test/integration/admission/garden"
	"github.com/larder-project/larder/test/integration/suite"
	"github.com/larder-project/larder/test/ports"
)

// programVariable makes the test binary run the admission component.
const programVariable = "ADMISSION_TEST_PROGRAM"

var (
	ctx        = context.Background()
	restConfig *rest.Config
	testClient client.Client
	program    *admissionProgram
)

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) == "" {
		os.Exit(m.Run())
	}
	// Standard input closes with the end of the test, even after a crash.
	programCtx, stop := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if err := app.NewCommand().ExecuteContext(programCtx); err != nil {
		os.Exit(1)
	}
}

func TestAdmission(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Admission Integration Suite")
}

var _ = BeforeSuite(func() {
	suite.Setup()

	testEnv := &gardenerenvtest.GardenerTestEnvironment{
		Environment:       &envtest.Environment{ControlPlaneStartTimeout: suite.ServerTimeout, ControlPlaneStopTimeout: suite.ServerTimeout},
		GardenerAPIServer: &gardenerenvtest.GardenerAPIServer{Args: []string{"--log-level=error"}},
	}
	var err error
	restConfig, err = testEnv.Start()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(testEnv.Stop()).To(Succeed()) })
	restConfig.QPS = -1
	testClient, err = client.New(restConfig, client.Options{Scheme: kubernetes.GardenScheme})
	Expect(err).NotTo(HaveOccurred())
	Expect(garden.Prepare(ctx, testClient)).To(Succeed())
	Expect(garden.CreateProject(ctx, testClient, "dev")).To(Equal(namespace))

	user, err := testEnv.ControlPlane.AddUser(envtest.User{Name: "admission", Groups: []string{"system:masters"}}, nil)
	Expect(err).NotTo(HaveOccurred())
	kubeconfig, err := user.KubeConfig()
	Expect(err).NotTo(HaveOccurred())
	program = newAdmissionProgram(kubeconfig)
	program.start()
	DeferCleanup(func() { program.stop() })
})

// admissionProgram is the admission component.
type admissionProgram struct {
	args  []string
	cmd   *exec.Cmd
	stdin io.Closer
}

// newAdmissionProgram returns the program with the command line of a garden. It manages its own certificates, as there.
func newAdmissionProgram(kubeconfig []byte) *admissionProgram {
	GinkgoHelper()
	directory := GinkgoT().TempDir()
	kubeconfigFile := filepath.Join(directory, "kubeconfig.yaml")
	Expect(os.WriteFile(kubeconfigFile, kubeconfig, 0o600)).To(Succeed())
	port, err := ports.Reserve()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(port.Close)
	return &admissionProgram{args: garden.AdmissionArguments(kubeconfigFile, directory, port.Port())}
}

// start starts the program and waits until the API server calls the webhook for Shoots.
func (p *admissionProgram) start() {
	GinkgoHelper()
	p.cmd = exec.Command(os.Args[0], p.args...)
	p.cmd.Env = append(os.Environ(), programVariable+"=true")
	p.cmd.Stdout, p.cmd.Stderr = GinkgoWriter, GinkgoWriter
	stdin, err := p.cmd.StdinPipe()
	Expect(err).NotTo(HaveOccurred())
	p.stdin = stdin
	Expect(p.cmd.Start()).To(Succeed())
	Eventually(func() error { return testClient.Create(ctx, newShoot(caches(`{}`)), client.DryRunAll) }).
		Should(beDenied("spec.extensions[0].providerConfig.caches[0].upstream", "Required value"))
}

func (p *admissionProgram) stop() {
	GinkgoHelper()
	Expect(p.stdin.Close()).To(Succeed())
	Expect(p.cmd.Wait()).To(Succeed())
}
