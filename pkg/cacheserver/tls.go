// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
)

var tlsVersions = map[string]uint16{
	"":       tls.VersionTLS12,
	"tls1.2": tls.VersionTLS12,
	"tls1.3": tls.VersionTLS13,
}

var clientAuthTypes = map[configuration.ClientAuth]tls.ClientAuthType{
	"": tls.RequireAndVerifyClientCert,
	configuration.ClientAuthRequestClientCert:          tls.RequestClientCert,
	configuration.ClientAuthRequireAnyClientCert:       tls.RequireAnyClientCert,
	configuration.ClientAuthVerifyClientCertIfGiven:    tls.VerifyClientCertIfGiven,
	configuration.ClientAuthRequireAndVerifyClientCert: tls.RequireAndVerifyClientCert,
}

// newTLSConfig returns the configuration of a server, and the certificate that it presents. Both are nil if the server
// serves plain HTTP.
func newTLSConfig(config configuration.TLS) (*tls.Config, *certificateFile, error) {
	if config.Certificate == "" {
		return nil, nil, nil
	}
	certificate := &certificateFile{certificatePath: config.Certificate, keyPath: config.Key}
	if err := certificate.load(); err != nil {
		return nil, nil, fmt.Errorf("http.tls: %w", err)
	}
	suites, err := cipherSuites(config.CipherSuites)
	if err != nil {
		return nil, nil, fmt.Errorf("http.tls.ciphersuites: %w", err)
	}
	tlsConfig := &tls.Config{
		GetCertificate: certificate.get,
		MinVersion:     tlsVersions[config.MinimumTLS],
		CipherSuites:   suites,
	}
	if len(config.ClientCAs) > 0 {
		tlsConfig.ClientAuth = clientAuthTypes[config.ClientAuth]
		if tlsConfig.ClientCAs, err = readBundles(config.ClientCAs); err != nil {
			return nil, nil, fmt.Errorf("http.tls.clientcas: %w", err)
		}
	}
	return tlsConfig, certificate, nil
}

// cipherSuites returns the IDs of cipher suites. Without names it returns nil, which selects Go's defaults.
func cipherSuites(names []string) ([]uint16, error) {
	var ids []uint16
	for _, name := range names {
		i := slices.IndexFunc(tls.CipherSuites(), func(suite *tls.CipherSuite) bool { return suite.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("%q is unknown or insecure", name)
		}
		ids = append(ids, tls.CipherSuites()[i].ID)
	}
	return ids, nil
}

func readBundles(paths []string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, path := range paths {
		bundle, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(bundle) {
			return nil, fmt.Errorf("no certificate in %s", path)
		}
	}
	return pool, nil
}

// certificateFile is a certificate and its key in files that are replaced when the certificate is renewed. Each
// handshake checks whether they were: two calls of stat cost nothing compared to the handshake's arithmetic, and a
// watch could miss the symlinks with which Kubernetes swaps a mounted Secret.
type certificateFile struct {
	certificatePath string
	keyPath         string

	mu      sync.Mutex
	current *tls.Certificate
	// loaded are the files of the current certificate, rejected the last ones that were not a valid pair. If these could
	// not even be read, they are read again at the time in retry.
	loaded, rejected generation
	retry            time.Time
}

// certificateRetryInterval is when files that could not be read are read again. The reason may have been a lack of
// descriptors.
const certificateRetryInterval = 10 * time.Second

// generation identifies one version of the files.
type generation struct {
	certificate, key os.FileInfo
}

func (g generation) equal(other generation) bool {
	return sameFile(g.certificate, other.certificate) && sameFile(g.key, other.key)
}

func sameFile(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// get implements tls.Config.GetCertificate. If a renewed certificate is unusable, it returns the previous one: clients
// see when that expires, and the log has the reason.
func (c *certificateFile) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, err := c.stat()
	if err != nil || found.equal(c.loaded) || found.equal(c.rejected) && (c.retry.IsZero() || time.Now().Before(c.retry)) {
		return c.current, nil
	}
	if err := c.reload(found); err != nil {
		c.rejected, c.retry = found, time.Time{}
		if failure := (*fs.PathError)(nil); errors.As(err, &failure) {
			c.retry = time.Now().Add(certificateRetryInterval)
		}
		logrus.WithError(err).Error("Failed to load renewed certificate, keeping the previous one")
		return c.current, nil
	}
	logrus.WithField("notAfter", c.current.Leaf.NotAfter).Info("Loaded renewed certificate")
	return c.current, nil
}

// notAfter returns the expiry of the certificate that the next handshake presents.
func (c *certificateFile) notAfter() time.Time {
	certificate, _ := c.get(nil) // It never fails after load.
	return certificate.Leaf.NotAfter
}

// metric returns the metric of the expiry. It reads the files, so it is up to date without handshakes.
func (c *certificateFile) metric() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "registry", Subsystem: "proxy", Name: "certificate_expiry_seconds",
		Help: "Unix time at which the certificate of the cache expires; absent without TLS.",
	}, func() float64 { return float64(c.notAfter().Unix()) })
}

func (c *certificateFile) load() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, err := c.stat()
	if err != nil {
		return err
	}
	return c.reload(found)
}

func (c *certificateFile) reload(found generation) error {
	pair, err := tls.LoadX509KeyPair(c.certificatePath, c.keyPath)
	if err != nil {
		return fmt.Errorf("%s and %s: %w", c.certificatePath, c.keyPath, err)
	}
	c.current, c.loaded, c.rejected = &pair, found, generation{}
	return nil
}

func (c *certificateFile) stat() (generation, error) {
	certificate, err := os.Stat(c.certificatePath)
	if err != nil {
		return generation{}, err
	}
	key, err := os.Stat(c.keyPath)
	if err != nil {
		return generation{}, err
	}
	return generation{certificate: certificate, key: key}, nil
}
