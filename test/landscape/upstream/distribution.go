// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // The storage of both registries.
)

// newDistribution returns Distribution's handlers without authentication, which upstreamsim does. Their constructor
// reports errors by a panic.
func newDistribution(dir string) (_ http.Handler, shutdown func() error, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("set up Distribution in %s: %v", dir, cause)
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("set up Distribution: %w", err)
	}
	config := &configuration.Configuration{
		Version: configuration.CurrentVersion,
		Storage: configuration.Storage{
			"filesystem": {"rootdirectory": filepath.Join(dir, "content")},
			"delete":     {"enabled": true},
		},
		// It signs only uploads, which do not outlive the process.
		HTTP:    configuration.HTTP{Secret: "upstream"},
		Catalog: configuration.Catalog{MaxEntries: 1000},
		Tags:    configuration.Tags{MaxTags: 1000},
	}
	app := handlers.NewApp(context.Background(), config)
	return app, app.Shutdown, nil
}
