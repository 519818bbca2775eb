// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
)

// newApp builds Distribution's application: the registry API over the storage that the configuration names, and the
// engine that takes the place of Distribution's proxy, as a middleware of the registry that the `proxy:` section
// switches on. The engine ends with the application. File is where the configuration came from, or empty.
//
// Distribution's constructor panics with whatever it cannot go on with.
func newApp(ctx context.Context, config *configuration.Configuration, file string) (_ *handlers.App, _ *pullthrough.Engine, err error) {
	remoteURL := config.Proxy.RemoteURL
	if err := makeRoot(config.Storage); err != nil {
		return nil, nil, err
	}
	engine, err := pullthrough.FromConfiguration(config, file)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		if cause := recover(); cause != nil {
			cancel()
			err = errors.Join(fmt.Errorf("setting up the registry as a cache of %s: %v", remoteURL, cause), engine.Close())
		}
	}()
	own := *config
	own.HTTP.Debug.Prometheus.Enabled = false // See instrumented.
	app := handlers.NewApp(ctx, &own)
	context.AfterFunc(app, cancel)
	return app, engine, nil
}

// makeRoot sees to it that the root directory is one, which the driver would find out at the first pull.
func makeRoot(storage configuration.Storage) error {
	root, ok := storage["filesystem"]["rootdirectory"].(string)
	if !ok {
		return nil
	}
	if err := os.MkdirAll(root, 0o750); err != nil {
		return fmt.Errorf("storage.filesystem.rootdirectory: %w", err)
	}
	return nil
}
