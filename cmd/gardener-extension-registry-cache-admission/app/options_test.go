// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"os"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

var _ = Describe("options", func() {
	var options *options

	BeforeEach(func() {
		GinkgoT().Setenv("GARDEN_KUBECONFIG", "")
		options = newOptions()
		options.inCluster = func() (*rest.Config, error) { return &rest.Config{Host: "https://runtime"}, nil }
	})

	complete := func(arguments ...string) {
		GinkgoHelper()
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		options.addFlags(flags)
		Expect(flags.Parse(arguments)).To(Succeed())
		Expect(options.complete()).To(Succeed())
	}

	Describe("clusters", func() {
		It("returns the garden cluster and the cluster in which the program runs", func() {
			complete("--kubeconfig=" + kubeconfigFor("https://garden"))
			garden, source, err := options.clusters()
			Expect(err).NotTo(HaveOccurred())
			Expect(garden.Host).To(Equal("https://garden"))
			Expect(source.Host).To(Equal("https://runtime"))
		})

		It("prefers the garden cluster that gardener-operator names", func() {
			GinkgoT().Setenv("GARDEN_KUBECONFIG", kubeconfigFor("https://virtual-garden"))
			complete("--kubeconfig=" + kubeconfigFor("https://garden"))
			garden, _, err := options.clusters()
			Expect(err).NotTo(HaveOccurred())
			Expect(garden.Host).To(Equal("https://virtual-garden"))
		})

		It("returns no source cluster if it is the garden cluster", func() {
			complete("--kubeconfig=" + kubeconfigFor("https://runtime"))
			_, source, err := options.clusters()
			Expect(err).NotTo(HaveOccurred())
			Expect(source).To(BeNil())
		})

		It("returns no source cluster outside of a cluster", func() {
			options.inCluster = func() (*rest.Config, error) { return nil, rest.ErrNotInCluster }
			complete("--kubeconfig=" + kubeconfigFor("https://garden"))
			_, source, err := options.clusters()
			Expect(err).NotTo(HaveOccurred())
			Expect(source).To(BeNil())
		})

		It("fails if it cannot detect the source cluster", func() {
			options.inCluster = func() (*rest.Config, error) { return nil, errors.New("no token") }
			complete("--kubeconfig=" + kubeconfigFor("https://garden"))
			_, _, err := options.clusters()
			Expect(err).To(MatchError(ContainSubstring("no token")))
		})

		It("leaves throttling to the API servers", func() {
			complete("--kubeconfig=" + kubeconfigFor("https://garden"))
			garden, source, err := options.clusters()
			Expect(err).NotTo(HaveOccurred())
			Expect(garden.QPS).To(BeNumerically("<", 0))
			Expect(source.QPS).To(BeNumerically("<", 0))
		})
	})
})

// kubeconfigFor writes a kubeconfig for the given host.
func kubeconfigFor(host string) string {
	GinkgoHelper()
	config := clientcmdapi.NewConfig()
	config.Clusters["garden"] = &clientcmdapi.Cluster{Server: host}
	config.Contexts["garden"] = &clientcmdapi.Context{Cluster: "garden"}
	config.CurrentContext = "garden"
	data, err := clientcmd.Write(*config)
	Expect(err).NotTo(HaveOccurred())
	filename := filepath.Join(GinkgoT().TempDir(), "kubeconfig.yaml")
	Expect(os.WriteFile(filename, data, 0o600)).To(Succeed())
	return filename
}
