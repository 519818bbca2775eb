// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package pki issues the certificates of tests and of the landscape.
//
// Its keys are elliptic: Gardener's utilities generate RSA keys, which take a noticeable part of a short test.
package pki

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// lifetime exceeds that of any landscape.
const lifetime = 365 * 24 * time.Hour

// Pair is a certificate and its private key, both in PEM.
type Pair struct {
	Certificate, Key []byte
}

// TLS returns the pair in the form that crypto/tls uses.
func (p Pair) TLS() (tls.Certificate, error) { return tls.X509KeyPair(p.Certificate, p.Key) }

// Authority is a certificate authority.
type Authority struct {
	Pair

	certificate *x509.Certificate
	signer      crypto.Signer
}

// Request describes a certificate.
type Request struct {
	// CommonName and Organizations are the user and the groups of a client of the API server.
	CommonName    string
	Organizations []string
	// Hosts are the DNS names and IP addresses of a server.
	Hosts []string
	// Lifetime replaces that of a year.
	Lifetime time.Duration
	// Usages are by default those of servers and of clients.
	Usages []x509.ExtKeyUsage
}

// NewAuthority creates an authority.
func NewAuthority(name string) (*Authority, error) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := newTemplate(Request{CommonName: name})
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = nil
	pair, err := sign(template, template, signer, signer)
	if err != nil {
		return nil, err
	}
	return ParseAuthority(pair)
}

// ParseAuthority restores an authority from its certificate and key.
func ParseAuthority(pair Pair) (*Authority, error) {
	parsed, err := pair.TLS()
	if err != nil {
		return nil, fmt.Errorf("read certificate authority: %w", err)
	}
	signer, ok := parsed.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("read certificate authority: key cannot sign")
	}
	return &Authority{Pair: pair, certificate: parsed.Leaf, signer: signer}, nil
}

// Pool returns a pool that trusts only this authority.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// Issue issues a certificate for servers and clients.
func (a *Authority) Issue(request Request) (Pair, error) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	template, err := newTemplate(request)
	if err != nil {
		return Pair{}, err
	}
	return sign(template, a.certificate, signer, a.signer)
}

func newTemplate(request Request) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: request.CommonName, Organization: request.Organizations},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(cmp.Or(request.Lifetime, lifetime)),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if request.Usages != nil {
		template.ExtKeyUsage = request.Usages
	}
	for _, host := range request.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return template, nil
}

func sign(template, parent *x509.Certificate, own, issuer crypto.Signer) (Pair, error) {
	certificate, err := x509.CreateCertificate(rand.Reader, template, parent, own.Public(), issuer)
	if err != nil {
		return Pair{}, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return Pair{}, err
	}
	return Pair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	}, nil
}
