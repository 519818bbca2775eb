// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"context"
	"fmt"
	"os"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
)

// newApp builds Distribution's application: the registry API over the storage that the configuration names, with
// Distribution's proxy behind it. A pull-through engine of our own takes the proxy's place here, as a middleware of the
// registry that a `proxy:` section switches on.
//
// The constructor panics with whatever it cannot go on with, which includes an upstream that does not answer.
func newApp(ctx context.Context, config *configuration.Configuration) (app *handlers.App, err error) {
	if err := makeRoot(config.Storage); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		if cause := recover(); cause != nil {
			cancel()
			app, err = nil, fmt.Errorf("setting up the registry as a cache of %s: %v", config.Proxy.RemoteURL, cause)
		}
	}()
	app = handlers.NewApp(ctx, config)
	context.AfterFunc(app, cancel)
	return app, nil
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
