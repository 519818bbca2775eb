// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"

	"github.com/spf13/pflag"
)

// clientAuthentication authenticates the clients of the webhooks. Responses reveal whether a Secret exists and what is
// wrong with it, in any namespace that a review names, so they are only for the API servers of the garden. These can
// present a certificate; without a CA for it, a network policy must exclude other clients.
type clientAuthentication struct {
	caFile string
	// ca has the certificates of the file; nil if clients are not authenticated.
	ca *x509.CertPool
}

// AddFlags adds the flag for the CA.
func (c *clientAuthentication) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.caFile, "webhook-client-ca-file", "",
		"The file with the CA certificates, in PEM, for the client certificates of the API servers. Without it, the webhooks respond to every client that reaches their port.")
}

// Complete reads the CA.
func (c *clientAuthentication) Complete() error {
	if c.caFile == "" {
		return nil
	}
	data, err := os.ReadFile(c.caFile)
	if err != nil {
		return fmt.Errorf("read CA of the webhook clients: %w", err)
	}
	c.ca = x509.NewCertPool()
	if !c.ca.AppendCertsFromPEM(data) {
		return fmt.Errorf("read CA of the webhook clients: %s has no PEM certificate", c.caFile)
	}
	return nil
}

// configure makes a server request and verify client certificates. They are optional, since the readiness probe
// connects without one.
func (c *clientAuthentication) configure(config *tls.Config) {
	if c.ca != nil {
		config.ClientCAs, config.ClientAuth = c.ca, tls.VerifyClientCertIfGiven
	}
}

// protect rejects requests without a verified certificate before their body is read.
func (c *clientAuthentication) protect(handler http.Handler) http.Handler {
	if c.ca == nil {
		return handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			http.Error(w, "a client certificate is required", http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	})
}
