// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package config writes the configuration file of the cache server.
//
// The file is Distribution's own config.yml, so that registry-cache-server and a stock registry read it alike.
// It is marshalled from typed structs, and holds no credential: a credential is bytes that somebody else chose, and
// neither a quote nor a line break nor a YAML word in it may become anything but itself. For the same reason credentials
// are never handed over in the environment, whose REGISTRY_* values Distribution parses as YAML. They lie in files of
// their own (see credentials.Files), which may change while the server runs.
//
// The package does not import Distribution, so whoever deploys a cache does not link one.
package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"go.yaml.in/yaml/v2"
)

const (
	// Port serves the registry API.
	Port = 5000
	// DebugPort serves /metrics, /debug/health and, by names only, /debug/credentials.
	DebugPort = 5001
	// CredentialsPath is where the server tells, at DebugPort, how its credential gets along: a credentials.Report.
	CredentialsPath = "/debug/credentials"
	// StorageRoot is the directory that holds the cached content, in Distribution's file system layout.
	StorageRoot = "/var/lib/registry"
	// DrainTimeout is how long a stopping server lets running downloads continue. It fits into the 30 seconds
	// that Kubernetes grants a pod by default.
	DrainTimeout = 25 * time.Second
)

// Config is what one cache needs to know.
type Config struct {
	// RemoteURL is the upstream, http(s)://host[:port].
	RemoteURL string
	// CredentialsDirectory holds the files of the credential that is presented to the upstream. Empty means anonymous
	// access.
	CredentialsDirectory string
	// TTL is how long content is kept after its last use. 0 keeps it for ever.
	TTL time.Duration
	// TagValidation is how long a pull of a cached tag waits for the upstream's answer, whatever the upstream's pace. Nil
	// leaves it to the server.
	TagValidation *time.Duration
	// TLS makes the server serve HTTPS. Nil means plain HTTP.
	TLS *TLSFiles
	// Local makes the server run on a person's machine. Nil means in a pod.
	Local *Local
}

// Local has the settings of a server on a person's machine. Such a server logs for a terminal and serves no metrics.
type Local struct {
	// Address is where the registry API is served, [host]:port.
	Address string
	// Directory holds the cached content.
	Directory string
	// MaxDiskUse is the used part of the disk, in percent, above which content is evicted.
	MaxDiskUse int
}

// TLSFiles are the paths of a PEM certificate chain and its key, as the server sees them.
type TLSFiles struct {
	CertificateFile string
	KeyFile         string
}

// Marshal renders the configuration file.
func (c Config) Marshal() ([]byte, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}

	f := file{
		Version: "0.1",
		Log: logging{
			Level:     "info",
			Formatter: "json",
			// Each request is logged as a structured line already; this would be a second one in another format.
			AccessLog: accessLog{Disabled: true},
		},
		Storage: storage{
			// There is no cache for blob descriptors on purpose: it would only save a stat of a local file,
			// and would go on telling what the disk no longer holds.
			Filesystem: filesystem{RootDirectory: StorageRoot},
		},
		HTTP: http{
			Addr:         listenAddress(Port),
			DrainTimeout: DrainTimeout,
			Headers:      map[string][]string{"X-Content-Type-Options": {"nosniff"}},
			Debug: &debug{
				Addr:       listenAddress(DebugPort),
				Prometheus: prometheus{Enabled: true, Path: "/metrics"},
			},
		},
		Health: health{
			StorageDriver: storageDriver{Enabled: true, Interval: 10 * time.Second, Threshold: 3},
		},
		Proxy: proxy{RemoteURL: c.RemoteURL, TTL: c.TTL},
	}
	if c.TLS != nil {
		f.HTTP.TLS = &tls{Certificate: c.TLS.CertificateFile, Key: c.TLS.KeyFile, MinimumTLS: "tls1.2"}
	}
	options := engineOptions{
		Credentials: c.CredentialsDirectory, ValidationTimeout: c.TagValidation, DoubtfulTimeout: c.TagValidation,
	}
	if c.Local != nil {
		f.Log.Formatter = "console"
		f.Storage.Filesystem.RootDirectory = c.Local.Directory
		f.HTTP.Addr = c.Local.Address
		f.HTTP.Debug = nil
		options.Watermarks = &watermarks{High: c.Local.MaxDiskUse}
	}
	if options != (engineOptions{}) {
		f.Middleware = &middlewares{Registry: []middleware{{Name: engineName, Options: options}}}
	}

	out, err := yaml.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("marshalling the configuration of the cache for %s: %w", c.RemoteURL, err)
	}
	return out, nil
}

// validate refuses what would make a server that does not do what was asked for. Owners see the rules of the API
// at admission; this guards against a builder that forgot one.
func (c Config) validate() error {
	remote, err := url.Parse(c.RemoteURL)
	switch {
	case err != nil:
		// The error of url.Parse quotes its input, which may carry user info.
		return fmt.Errorf("remote URL is not a URL")
	case remote.User != nil:
		return fmt.Errorf("remote URL of host %q must not carry user info", remote.Host)
	case remote.Host == "" || remote.Scheme != "http" && remote.Scheme != "https":
		return fmt.Errorf("remote URL %q must be http(s)://host[:port]", c.RemoteURL)
	case c.TTL < 0:
		return fmt.Errorf("TTL %s must not be negative", c.TTL)
	case c.TagValidation != nil && *c.TagValidation < 0:
		return fmt.Errorf("timeout %s of the validation of tags must not be negative", *c.TagValidation)
	case c.TLS != nil && (c.TLS.CertificateFile == "" || c.TLS.KeyFile == ""):
		return fmt.Errorf("TLS needs both a certificate file and a key file")
	}
	return c.Local.validate()
}

func (l *Local) validate() error {
	if l == nil {
		return nil
	}
	if _, _, err := net.SplitHostPort(l.Address); err != nil {
		return fmt.Errorf("address %q must be [host]:port", l.Address)
	}
	if !filepath.IsAbs(l.Directory) {
		return fmt.Errorf("directory %q must be an absolute path", l.Directory)
	}
	if l.MaxDiskUse < 1 || l.MaxDiskUse > 100 {
		return fmt.Errorf("disk use of %d percent must be from 1 to 100", l.MaxDiskUse)
	}
	return nil
}

func listenAddress(port int) string {
	return net.JoinHostPort("", strconv.Itoa(port))
}
