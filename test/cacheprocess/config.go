// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheprocess

import (
	"time"

	yaml "go.yaml.in/yaml/v2"
)

// Config is the configuration of a cache server.
type Config struct {
	// Raw is a complete configuration file, in place of all other fields. Its addresses and its storage are overridden
	// by the environment.
	Raw []byte

	RemoteURL          string
	Username, Password string
	// Helper is a credential helper to run once, in place of Username and Password.
	Helper string
	// TTL is the default if nil.
	TTL *time.Duration
	// TLS makes the server serve HTTPS with the certificate of its Identity.
	TLS bool
	// Options are not passed to stock Distribution, which does not know them.
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
	if s.Config.Raw != nil {
		return s.Config.Raw, nil
	}
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
