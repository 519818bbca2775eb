// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package config renders the configuration file of the cache server.
//
// The file has the format of Distribution's config.yml, so a stock registry can also read it. It is marshalled from
// typed structs and contains no credential: a credential consists of arbitrary bytes, and no quote, line break or YAML
// keyword in it may change the meaning of the file. For the same reason, credentials are never passed in the
// environment, where Distribution parses REGISTRY_* values as YAML. They are in separate files (see credentials.Files),
// which may change while the server runs.
//
// The package does not import Distribution, so components that deploy a cache do not link it.
package config

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"strconv"
	"time"

	"go.yaml.in/yaml/v2"

	"github.com/larder-project/larder/pkg/upstream"
)

const (
	// Port serves the registry API.
	Port = 5000
	// DebugPort serves /metrics, /debug/health, and the state of the server, for people at /debug/. It serves no
	// secrets.
	DebugPort = 5001
	// CredentialsPath serves, at DebugPort, the state of the server's credentials as credentials.Reports.
	CredentialsPath = "/debug/credentials"
	// StatusPath serves, at DebugPort, the state of the server as a status.Report.
	StatusPath = "/debug/status"
	// StorageRoot is the directory of the cached content, which has the layout of Distribution's filesystem driver. It
	// is that driver's default.
	StorageRoot = "/var/lib/registry"
	// DrainTimeout is how long a stopping server waits for running downloads. It fits into a pod's default termination
	// grace period of 30 seconds.
	DrainTimeout = 25 * time.Second
	// minGracePeriod is the server's default of how long a fetch continues after its last client has left.
	minGracePeriod = 10 * time.Second
)

// Config describes one cache.
type Config struct {
	// RemoteURL is the upstream, http(s)://host[:port].
	RemoteURL string
	// CredentialsDirectory holds the files of the credential for the upstream. Empty means anonymous access.
	CredentialsDirectory string
	// RepositoryCredentials are the files of credentials for some of the upstream's repositories.
	RepositoryCredentials []RepositoryCredential
	// TTL is how long content is kept after its last use. 0 keeps it forever.
	TTL time.Duration
	// TagValidation is how long a pull of a cached tag waits for its validation, however fast the upstream usually is.
	// Nil selects the server's defaults.
	TagValidation *time.Duration
	// Connection has the paths of files about the connections to the upstream.
	Connection Connection
	// AllowedRealms are hosts of token servers outside the upstream's domain that may see the credential.
	AllowedRealms []string
	// Access restricts who may read what. Nil means that every client may read everything.
	Access *Access
	// FirstByte is how long the server waits for the first byte of a response. Nil selects the server's default.
	FirstByte *time.Duration
	// TLS makes the server serve HTTPS. Nil means plain HTTP.
	TLS *TLSFiles
	// Local configures a server on a user's machine. Nil means that the server runs in a pod.
	Local *Local
}

// Connection has paths of files as the server sees them, each empty for none. The server follows their changes.
type Connection struct {
	// CABundleFile has certificates to trust in addition to the system's.
	CABundleFile string
	// ClientCertificate identifies the server at the upstream. Nil means that it does not identify itself.
	ClientCertificate *TLSFiles
	// ProxyUsernameFile and ProxyPasswordFile have the credential for the proxies in the environment.
	ProxyUsernameFile, ProxyPasswordFile string
}

// RepositoryCredential describes the files of the credential for some of an upstream's repositories.
type RepositoryCredential struct {
	// Directory holds the files, whose names start with Prefix.
	Directory string `yaml:"directory"`
	Prefix    string `yaml:"prefix"`
	// Repositories are prefixes of repositories, by path segments.
	Repositories []string `yaml:"repositories"`
}

// Local configures a server on a user's machine, which logs for a terminal.
type Local struct {
	// Address is the listen address of the registry API, [host]:port.
	Address string
	// StatusAddress is the listen address of the status page and the metrics, [host]:port. Empty disables them.
	StatusAddress string
	// Directory holds the cached content.
	Directory string
	// MaxDiskUse is the used share of the disk, in percent, above which content is evicted.
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
			// Distribution already logs each request as a structured line.
			AccessLog: accessLog{Disabled: true},
		},
		Storage: storage{
			// A cache of blob descriptors would only save a stat of a local file, and would keep descriptors of blobs
			// that are no longer on disk.
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
		Credentials: c.CredentialsDirectory, RepositoryCredentials: c.RepositoryCredentials,
		ValidationTimeout: c.TagValidation, SuspectTimeout: c.TagValidation,
		CABundle: c.Connection.CABundleFile, AllowedRealms: c.AllowedRealms, Access: c.Access,
	}
	if files := c.Connection.ClientCertificate; files != nil {
		options.ClientCertificate = &clientCertificate{Certificate: files.CertificateFile, Key: files.KeyFile}
	}
	if c.Connection.ProxyUsernameFile != "" {
		options.ForwardProxy = &forwardProxy{UsernameFile: c.Connection.ProxyUsernameFile, PasswordFile: c.Connection.ProxyPasswordFile}
	}
	if c.FirstByte != nil {
		options.Timeouts = &timeouts{FirstByte: *c.FirstByte}
		// Clients leave before a slow upstream responds. The fetch continues, for the next pull to find.
		options.GracePeriod = new(max(*c.FirstByte, minGracePeriod))
	}
	if c.Local != nil {
		f.Log.Formatter = "console"
		f.Storage.Filesystem.RootDirectory = c.Local.Directory
		f.HTTP.Addr = c.Local.Address
		f.HTTP.Debug.Addr = c.Local.StatusAddress
		if c.Local.StatusAddress == "" {
			f.HTTP.Debug = nil
		}
		options.Watermarks = &watermarks{High: c.Local.MaxDiskUse}
	}
	if !reflect.ValueOf(options).IsZero() {
		f.Middleware = &middlewares{Registry: []middleware{{Name: EngineName, Options: options}}}
	}

	out, err := yaml.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("marshal configuration of the cache of %s: %w", c.RemoteURL, err)
	}
	return out, nil
}

// ParseAccess returns the Access in a rendered configuration file, nil if it has none.
func ParseAccess(rendered []byte) (*Access, error) {
	var f file
	if err := yaml.Unmarshal(rendered, &f); err != nil {
		return nil, fmt.Errorf("parse configuration: %w", err)
	}
	if f.Middleware == nil || len(f.Middleware.Registry) == 0 {
		return nil, nil
	}
	return f.Middleware.Registry[0].Options.Access, nil
}

// validate guards against bugs in callers. Owners see the rules of the API at admission.
func (c Config) validate() error {
	_, err := upstream.ParseURL(c.RemoteURL)
	switch {
	case err != nil:
		return fmt.Errorf("remote URL: %w", err)
	case c.TTL < 0:
		return fmt.Errorf("TTL %s must not be negative", c.TTL)
	case c.TagValidation != nil && *c.TagValidation < 0:
		return fmt.Errorf("tag validation timeout %s must not be negative", *c.TagValidation)
	case c.FirstByte != nil && *c.FirstByte <= 0:
		return fmt.Errorf("timeout %s for the first byte must be positive", *c.FirstByte)
	case (c.Connection.ProxyUsernameFile == "") != (c.Connection.ProxyPasswordFile == ""):
		return errors.New("the credential for proxies needs both a user name and a password")
	case !c.Connection.ClientCertificate.isComplete():
		return errors.New("the client certificate needs both a certificate file and a key file")
	case c.Access != nil && c.TLS == nil:
		return errors.New("restricted access needs TLS")
	case c.Access != nil && len(c.Access.Problems()) > 0:
		return errors.Join(c.Access.Problems()...)
	case !c.TLS.isComplete():
		return errors.New("TLS needs both a certificate file and a key file")
	}
	return c.Local.validate()
}

func (f *TLSFiles) isComplete() bool {
	return f == nil || f.CertificateFile != "" && f.KeyFile != ""
}

func (l *Local) validate() error {
	if l == nil {
		return nil
	}
	if _, _, err := net.SplitHostPort(l.Address); err != nil {
		return fmt.Errorf("address %q must be [host]:port", l.Address)
	}
	if _, _, err := net.SplitHostPort(l.StatusAddress); l.StatusAddress != "" && err != nil {
		return fmt.Errorf("status address %q must be [host]:port", l.StatusAddress)
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
