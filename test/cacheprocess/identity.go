// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheprocess

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"

	"github.com/larder-project/larder/test/pki"
)

// Identity is a server certificate for the loopback addresses, with its certificate authority. A cache server serves
// with it and trusts the authority in upstreams.
type Identity struct {
	AuthorityFile            string
	CertificateFile, KeyFile string
	Certificate              tls.Certificate
	Pool                     *x509.CertPool
}

// NewIdentity issues a certificate and writes it to the given directory.
func NewIdentity(dir string) (*Identity, error) {
	authority, err := pki.NewAuthority("cache process")
	if err != nil {
		return nil, err
	}
	pair, err := authority.Issue(pki.Request{CommonName: "cache", Hosts: []string{"localhost", "127.0.0.1", "127.0.0.2"}})
	if err != nil {
		return nil, err
	}
	identity := &Identity{
		AuthorityFile:   filepath.Join(dir, "ca.crt"),
		CertificateFile: filepath.Join(dir, "tls.crt"),
		KeyFile:         filepath.Join(dir, "tls.key"),
		Pool:            authority.Pool(),
	}
	for path, content := range map[string][]byte{
		identity.AuthorityFile:   authority.Certificate,
		identity.CertificateFile: pair.Certificate,
		identity.KeyFile:         pair.Key,
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return nil, err
		}
	}
	identity.Certificate, err = pair.TLS()
	return identity, err
}
