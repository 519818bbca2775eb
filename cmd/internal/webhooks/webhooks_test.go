// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	secretsutils "github.com/gardener/gardener/pkg/utils/secrets"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/larder-project/larder/test/pki"
)

// tlsTimeout is longer than the interval at which files are read without a watch.
const tlsTimeout = 20 * time.Second

var _ = Describe("The certificate of the server", func() {
	It("is presented and renewed while its files are written in place", func(ctx context.Context) {
		authority, err := pki.NewAuthority("webhooks")
		Expect(err).NotTo(HaveOccurred())
		directory := GinkgoT().TempDir()
		write := func(name string, data []byte) {
			GinkgoHelper()
			Expect(os.WriteFile(filepath.Join(directory, name), data, 0o600)).To(Succeed())
		}
		issue := func(name string) pki.Pair {
			GinkgoHelper()
			pair, err := authority.Issue(pki.Request{CommonName: name, Hosts: []string{name}})
			Expect(err).NotTo(HaveOccurred())
			return pair
		}
		first := issue("first")
		write(secretsutils.DataKeyCertificate, first.Certificate)
		write(secretsutils.DataKeyPrivateKey, first.Key)

		listener, err := net.Listen("tcp", "127.0.0.1:0")
		Expect(err).NotTo(HaveOccurred())
		address := listener.Addr().String()
		_, port, err := net.SplitHostPort(address)
		Expect(err).NotTo(HaveOccurred())
		number, err := strconv.Atoi(port)
		Expect(err).NotTo(HaveOccurred())
		Expect(listener.Close()).To(Succeed())

		server := &webhook.DefaultServer{Options: webhook.Options{Host: "127.0.0.1", Port: number, CertDir: directory}}
		mgr, err := manager.New(&rest.Config{}, manager.Options{
			WebhookServer:  server,
			Metrics:        metricsserver.Options{BindAddress: "0"},
			MapperProvider: func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return meta.NewDefaultRESTMapper(nil), nil },
		})
		Expect(err).NotTo(HaveOccurred())
		Expect(mgr.GetWebhookServer()).To(BeIdenticalTo(server))
		Expect(watchCertificate(mgr, server)).To(Succeed())

		By("Start while the key is written")
		write(secretsutils.DataKeyPrivateKey, nil)
		ctx, stop := context.WithCancel(ctx)
		stopped := make(chan error, 1)
		go func() { stopped <- mgr.Start(ctx) }()
		DeferCleanup(func() {
			stop()
			Eventually(stopped, "10s").Should(Receive(BeNil()))
		})
		presented := func(g Gomega, name string) {
			connection, err := (&tls.Dialer{Config: &tls.Config{RootCAs: authority.Pool(), ServerName: name, MinVersion: tls.VersionTLS13}}).DialContext(ctx, "tcp", address)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(connection.Close()).To(Succeed())
		}
		Eventually(presented).WithArguments("first").WithTimeout(tlsTimeout).Should(Succeed())

		By("Renew it")
		second := issue("second")
		write(secretsutils.DataKeyPrivateKey, second.Key)
		Consistently(presented).WithArguments("first").WithTimeout(300 * time.Millisecond).Should(Succeed())
		write(secretsutils.DataKeyCertificate, second.Certificate)
		Eventually(presented).WithArguments("second").WithTimeout(tlsTimeout).Should(Succeed())
	}, NodeTimeout(tlsTimeout*3))
})
