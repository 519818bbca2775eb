// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheprocess

import (
	"time"

	yaml "go.yaml.in/yaml/v2"
)

// Config is what a cache server is told in its configuration file.
type Config struct {
	RemoteURL          string
	Username, Password string
	// Helper is a credential helper that is asked instead, once.
	Helper string
	// TTL is nil for the default.
	TTL *time.Duration
	// TLS makes the server serve HTTPS with the certificate of its Identity.
	TLS bool
	// Options go beyond stock Distribution, which is never told them.
	Options Options
}

// Options are the options of the registry middleware "pullthrough".
type Options map[string]any

// file has the shape of Distribution's configuration file.
type file struct {
	Version    string         `yaml:"version"`
	Log        fields         `yaml:"log"`
	Storage    fields         `yaml:"storage"`
	HTTP       fields         `yaml:"http"`
	Proxy      proxy          `yaml:"proxy"`
	Middleware *middlewareSet `yaml:"middleware,omitempty"`
}

type fields map[string]any

type proxy struct {
	RemoteURL string         `yaml:"remoteurl"`
	Username  string         `yaml:"username,omitempty"`
	Password  string         `yaml:"password,omitempty"`
	Exec      fields         `yaml:"exec,omitempty"`
	TTL       *time.Duration `yaml:"ttl,omitempty"`
}

type middlewareSet struct {
	Registry []middleware `yaml:"registry"`
}

type middleware struct {
	Name    string  `yaml:"name"`
	Options Options `yaml:"options"`
}

func (s *Server) marshalConfig() ([]byte, error) {
	http := fields{"addr": s.port.Address(), "debug": fields{"addr": s.debugPort.Address(), "prometheus": fields{"enabled": true, "path": "/metrics"}}}
	if s.Config.TLS {
		http["tls"] = fields{"certificate": s.identity.CertificateFile, "key": s.identity.KeyFile}
	}
	out := file{
		Version: "0.1",
		Log:     fields{"fields": fields{"service": "registry"}},
		Storage: fields{
			"delete":     fields{"enabled": true},
			"cache":      fields{"blobdescriptor": "inmemory"},
			"filesystem": fields{"rootdirectory": s.DataDirectory()},
		},
		HTTP:  http,
		Proxy: proxy{RemoteURL: s.Config.RemoteURL, Username: s.Config.Username, Password: s.Config.Password, TTL: s.Config.TTL},
	}
	if s.Config.Helper != "" {
		out.Proxy.Exec = fields{"command": s.Config.Helper}
	}
	if s.Implementation.Name == Ours && len(s.Config.Options) > 0 {
		out.Middleware = &middlewareSet{Registry: []middleware{{Name: "pullthrough", Options: s.Config.Options}}}
	}
	return yaml.Marshal(out)
}
