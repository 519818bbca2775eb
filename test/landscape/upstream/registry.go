// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd" // The basic registry's authentication.
	_ "github.com/distribution/distribution/v3/registry/auth/token"    // The private registry's authentication.
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // Where both keep their content.
	"github.com/go-jose/go-jose/v4"
)

// newPrivate builds the registry with token authentication.
func newPrivate(o Options, tokens *tokenServer) (http.Handler, func() error, error) {
	dir := filepath.Join(o.Dir, Private)
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{tokens.publicKey()}})
	if err != nil {
		return nil, nil, fmt.Errorf("marshalling the token server's key: %w", err)
	}
	keyFile := filepath.Join(dir, "jwks.json")
	if err := writeFile(keyFile, keys); err != nil {
		return nil, nil, err
	}
	registry, stop, err := newRegistry(dir, configuration.Auth{"token": {
		"realm":   "https://" + o.Token.Host + TokenPath,
		"service": tokens.service,
		"issuer":  tokenIssuer,
		"jwks":    keyFile,
	}})
	if err != nil {
		return nil, nil, err
	}
	return tokens.checked(registry), stop, nil
}

// newBasic builds the registry with basic authentication.
func newBasic(o Options, users *accounts) (http.Handler, func() error, error) {
	registry, stop, err := newRegistry(filepath.Join(o.Dir, Basic), configuration.Auth{"htpasswd": {"realm": Basic, "path": users.htpasswd}})
	if err != nil {
		return nil, nil, err
	}
	return users.followed(registry), stop, nil
}

// newRegistry builds a registry whose constructor, as its authors left it, panics where it cannot go on.
func newRegistry(dir string, auth configuration.Auth) (_ http.Handler, _ func() error, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("setting up the registry in %s: %v", dir, cause)
		}
	}()
	config := &configuration.Configuration{
		Version: configuration.CurrentVersion,
		Storage: configuration.Storage{
			"filesystem": {"rootdirectory": filepath.Join(dir, "content")},
			"delete":     {"enabled": true},
		},
		Auth: auth,
		// Only uploads are signed with it, and none outlives the process.
		HTTP:    configuration.HTTP{Secret: "upstream"},
		Catalog: configuration.Catalog{MaxEntries: 1000},
		Tags:    configuration.Tags{MaxTags: 1000},
	}
	app := handlers.NewApp(context.Background(), config)
	return app, app.Shutdown, nil
}

func writeFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("making the registry's directory: %w", err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("writing a file of the registry: %w", err)
	}
	return nil
}
