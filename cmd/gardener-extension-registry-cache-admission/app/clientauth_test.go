// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/gardener/gardener/pkg/utils/secrets"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/spf13/pflag"
)

var _ = Describe("client authentication", func() {
	// complete parses the flag as the program does.
	complete := func(arguments ...string) (*clientAuthentication, error) {
		GinkgoHelper()
		clients := &clientAuthentication{}
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		clients.AddFlags(flags)
		Expect(flags.Parse(arguments)).To(Succeed())
		return clients, clients.Complete()
	}

	// ask sends a request to a protected server, with or without a certificate.
	ask := func(clients *clientAuthentication, certificate *secrets.Certificate) (int, error) {
		GinkgoHelper()
		server := httptest.NewUnstartedServer(clients.protect(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "a response")
		})))
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		server.Config.ErrorLog = log.New(GinkgoWriter, "", 0)
		clients.configure(server.TLS)
		server.StartTLS()
		defer server.Close()

		client := server.Client()
		if certificate != nil {
			pair, err := tls.X509KeyPair(certificate.CertificatePEM, certificate.PrivateKeyPEM)
			Expect(err).NotTo(HaveOccurred())
			// An API server presents its certificate regardless of the requested CAs.
			client.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, server.URL, nil)
		Expect(err).NotTo(HaveOccurred())
		response, err := client.Do(request)
		if err != nil {
			return 0, err
		}
		defer func() { _ = response.Body.Close() }()
		return response.StatusCode, nil
	}

	It("responds only to clients with a certificate of the CA", func() {
		file, certificate := certificateOf("api-server", secrets.ClientCert)
		_, foreign := certificateOf("stranger", secrets.ClientCert)
		clients, err := complete("--webhook-client-ca-file=" + file)
		Expect(err).NotTo(HaveOccurred())

		Expect(ask(clients, certificate)).To(Equal(http.StatusOK))
		Expect(ask(clients, nil)).To(Equal(http.StatusUnauthorized))
		_, err = ask(clients, foreign)
		Expect(err).To(HaveOccurred())
	})

	It("refuses a server certificate", func() {
		file, certificate := certificateOf("api-server", secrets.ServerCert)
		clients, err := complete("--webhook-client-ca-file=" + file)
		Expect(err).NotTo(HaveOccurred())
		_, err = ask(clients, certificate)
		Expect(err).To(HaveOccurred())
	})

	It("responds to all clients if there is no CA", func() {
		clients, err := complete()
		Expect(err).NotTo(HaveOccurred())
		Expect(ask(clients, nil)).To(Equal(http.StatusOK))
	})

	It("does not start without the configured CA", func() {
		_, err := complete("--webhook-client-ca-file=/does/not/exist")
		Expect(err).To(MatchError(ContainSubstring("/does/not/exist")))

		file := filepath.Join(GinkgoT().TempDir(), "ca.crt")
		Expect(os.WriteFile(file, []byte("no certificate"), 0o600)).To(Succeed())
		_, err = complete("--webhook-client-ca-file=" + file)
		Expect(err).To(MatchError(ContainSubstring("has no PEM certificate")))
	})

	It("is part of the webhook server", func() {
		file, _ := certificateOf("api-server", secrets.ClientCert)
		options := newOptions()
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		options.addFlags(flags)
		Expect(flags.Parse([]string{"--kubeconfig=" + kubeconfigFor("https://garden"), "--webhook-client-ca-file=" + file})).To(Succeed())
		Expect(options.complete()).To(Succeed())

		config := &tls.Config{MinVersion: tls.VersionTLS12}
		for _, configure := range options.webhookServer().Options.TLSOpts {
			configure(config)
		}
		Expect(config.ClientAuth).To(Equal(tls.VerifyClientCertIfGiven))
		Expect(config.ClientCAs).NotTo(Equal(x509.NewCertPool()))
	})
})

// certificateOf returns a file with a new CA and a certificate signed by it.
func certificateOf(name string, usage secrets.CertType) (string, *secrets.Certificate) {
	GinkgoHelper()
	ca, err := (&secrets.CertificateSecretConfig{Name: name + "-ca", CommonName: name + "-ca", CertType: secrets.CACert}).GenerateCertificate()
	Expect(err).NotTo(HaveOccurred())
	certificate, err := (&secrets.CertificateSecretConfig{Name: name, CommonName: name, CertType: usage, SigningCA: ca, SkipPublishingCACertificate: true}).GenerateCertificate()
	Expect(err).NotTo(HaveOccurred())
	file := filepath.Join(GinkgoT().TempDir(), "ca.crt")
	Expect(os.WriteFile(file, ca.CertificatePEM, 0o600)).To(Succeed())
	return file, certificate
}
