// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package connection

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
)

const (
	// maxFile bounds the size of a file.
	maxFile = 1 << 20
	// attempts bounds the readings until two in a row agree.
	attempts = 5
)

// Files are the paths of files that may change. All may be empty; certificate and key belong together, as do user name
// and password.
type Files struct {
	// CABundle has certificates to trust in addition to the system's.
	CABundle string
	// ClientCertificate and ClientKey identify the cache at the upstream and its token services.
	ClientCertificate, ClientKey string
	// ProxyUsername and ProxyPassword are for all proxies.
	ProxyUsername, ProxyPassword string
}

// contents are the contents of Files.
type contents struct {
	caBundle                     string
	clientCertificate, clientKey string
	proxyUsername, proxyPassword string
}

// read returns contents that belong together. The files of a Secret are replaced at once, but read one by one, so two
// readings have to agree.
func (f Files) read() (contents, error) {
	last, err := f.readOnce()
	for range attempts {
		if err != nil {
			return contents{}, err
		}
		again, againErr := f.readOnce()
		if againErr == nil && again == last {
			return last, nil
		}
		last, err = again, againErr
	}
	return contents{}, errors.New("files change too fast")
}

func (f Files) readOnce() (contents, error) {
	var c contents
	for _, file := range []struct {
		what, path string
		content    *string
	}{
		{"CA bundle", f.CABundle, &c.caBundle},
		{"client certificate", f.ClientCertificate, &c.clientCertificate},
		{"key of the client certificate", f.ClientKey, &c.clientKey},
		{"user name for the proxy", f.ProxyUsername, &c.proxyUsername},
		{"password for the proxy", f.ProxyPassword, &c.proxyPassword},
	} {
		if file.path == "" {
			continue
		}
		var err error
		if *file.content, err = readFile(file.path); err != nil {
			return contents{}, fmt.Errorf("read %s: %w", file.what, err)
		}
	}
	return c, nil
}

func readFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	switch {
	case err != nil:
		return "", err
	case len(content) > maxFile:
		return "", fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	case len(content) == 0:
		return "", fmt.Errorf("%s is empty", path)
	}
	return string(content), nil
}

// roots returns the certificates to trust, nil for the system's.
func (c contents) roots() (*x509.CertPool, error) {
	if c.caBundle == "" {
		return nil, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM([]byte(c.caBundle)) {
		return nil, errors.New("CA bundle contains no certificate")
	}
	return roots, nil
}

// identity returns the client certificate, nil for none.
func (c contents) identity() (*tls.Certificate, error) {
	if c.clientCertificate == "" {
		return nil, nil
	}
	pair, err := tls.X509KeyPair([]byte(c.clientCertificate), []byte(c.clientKey))
	if err != nil { // It may quote a part of a file.
		return nil, errors.New("client certificate and its key cannot be parsed or do not match")
	}
	return &pair, nil
}

// proxyCredential returns the credential for proxies, nil for none.
func (c contents) proxyCredential() *url.Userinfo {
	if c.proxyUsername == "" {
		return nil
	}
	return url.UserPassword(c.proxyUsername, c.proxyPassword)
}
