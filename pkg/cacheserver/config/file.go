// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package config

import "time"

// file has the fields of Distribution's configuration file that a cache uses.
type file struct {
	Version string  `yaml:"version"`
	Log     logging `yaml:"log"`
	Storage storage `yaml:"storage"`
	HTTP    http    `yaml:"http"`
	Health  health  `yaml:"health"`
	Proxy   proxy   `yaml:"proxy"`
	// Middleware has the options of the engine that the proxy section does not have.
	Middleware *middlewares `yaml:"middleware,omitempty"`
}

type logging struct {
	Level     string    `yaml:"level"`
	Formatter string    `yaml:"formatter"`
	AccessLog accessLog `yaml:"accesslog"`
}

type accessLog struct {
	Disabled bool `yaml:"disabled"`
}

type storage struct {
	Filesystem filesystem `yaml:"filesystem"`
}

type filesystem struct {
	RootDirectory string `yaml:"rootdirectory"`
}

type http struct {
	Addr         string              `yaml:"addr"`
	DrainTimeout time.Duration       `yaml:"draintimeout"`
	Headers      map[string][]string `yaml:"headers"`
	TLS          *tls                `yaml:"tls,omitempty"`
	Debug        *debug              `yaml:"debug,omitempty"`
}

type tls struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	MinimumTLS  string `yaml:"minimumtls"`
}

type debug struct {
	Addr       string     `yaml:"addr"`
	Prometheus prometheus `yaml:"prometheus"`
}

type prometheus struct {
	Enabled bool   `yaml:"enabled"`
	Path    string `yaml:"path"`
}

type health struct {
	StorageDriver storageDriver `yaml:"storagedriver"`
}

type storageDriver struct {
	Enabled   bool          `yaml:"enabled"`
	Interval  time.Duration `yaml:"interval"`
	Threshold int           `yaml:"threshold"`
}

type proxy struct {
	RemoteURL string `yaml:"remoteurl"`
	// TTL is always present: 0 means forever, but an absent field means Distribution's default of seven days.
	TTL time.Duration `yaml:"ttl"`
}

// EngineName is the name under which the engine is registered as a middleware.
const EngineName = "pullthrough"

type middlewares struct {
	Registry []middleware `yaml:"registry"`
}

type middleware struct {
	Name    string        `yaml:"name"`
	Options engineOptions `yaml:"options"`
}

type engineOptions struct {
	Credentials           string                 `yaml:"credentials,omitempty"`
	RepositoryCredentials []RepositoryCredential `yaml:"repositorycredentials,omitempty"`
	ValidationTimeout     *time.Duration         `yaml:"validationtimeout,omitempty"`
	SuspectTimeout        *time.Duration         `yaml:"suspecttimeout,omitempty"`
	CABundle              string                 `yaml:"cabundle,omitempty"`
	ClientCertificate     *clientCertificate     `yaml:"clientcertificate,omitempty"`
	ForwardProxy          *forwardProxy          `yaml:"forwardproxy,omitempty"`
	AllowedRealms         []string               `yaml:"allowedrealms,omitempty"`
	Access                *Access                `yaml:"access,omitempty"`
	Timeouts              *timeouts              `yaml:"timeouts,omitempty"`
	GracePeriod           *time.Duration         `yaml:"graceperiod,omitempty"`
	Watermarks            *watermarks            `yaml:"watermarks,omitempty"`
}

type clientCertificate struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

type forwardProxy struct {
	UsernameFile string `yaml:"usernamefile"`
	PasswordFile string `yaml:"passwordfile"`
}

type timeouts struct {
	FirstByte time.Duration `yaml:"firstbyte"`
}

type watermarks struct {
	High int `yaml:"high"`
}
