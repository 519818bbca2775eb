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

// newApp builds Distribution's application, the registry API over the configured storage, with the engine in place of
// Distribution's proxy. Shutting down the application closes the engine. File is the path that the configuration was
// read from, or empty.
//
// Distribution's constructor panics on errors in the configuration.
func newApp(ctx context.Context, config *configuration.Configuration, file string) (_ *handlers.App, _ *pullthrough.Engine, err error) {
	remoteURL := config.Proxy.RemoteURL // FromConfiguration clears the section.
	if err := makeRoot(config.Storage); err != nil {
		return nil, nil, err
	}
	engine, err := pullthrough.FromConfiguration(config, file, eventLog(config.Log))
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		if cause := recover(); cause != nil {
			cancel()
			err = errors.Join(fmt.Errorf("set up the registry as a cache of %s: %v", remoteURL, cause), engine.Close())
		}
	}()
	uninstrumented := *config
	uninstrumented.HTTP.Debug.Prometheus.Enabled = false // See instrumented.
	app := handlers.NewApp(ctx, &uninstrumented)
	context.AfterFunc(app, cancel)
	return app, engine, nil
}

// makeRoot creates the root directory. The storage driver would report an unusable one only at the first pull.
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
