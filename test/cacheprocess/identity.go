// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheprocess

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Identity is a self-signed certificate for the loopback addresses. Cache
// servers trust it, too, when they talk to an upstream.
type Identity struct {
	CertificateFile, KeyFile string
	Certificate              tls.Certificate
	Pool                     *x509.CertPool
}

// NewIdentity makes a certificate and writes it into the given directory.
func NewIdentity(dir string) (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "larder test"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(127, 0, 0, 2)},
		DNSNames:              []string{"localhost"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	privateKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	certificatePEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateKey})

	identity := &Identity{
		CertificateFile: filepath.Join(dir, "tls.crt"),
		KeyFile:         filepath.Join(dir, "tls.key"),
		Pool:            x509.NewCertPool(),
	}
	identity.Pool.AppendCertsFromPEM(certificatePEM)
	if err := os.WriteFile(identity.CertificateFile, certificatePEM, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(identity.KeyFile, keyPEM, 0o600); err != nil {
		return nil, err
	}
	identity.Certificate, err = tls.X509KeyPair(certificatePEM, keyPEM)
	return identity, err
}
