// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/cluster"
	"github.com/larder-project/larder/test/landscape/evidence"
	"github.com/larder-project/larder/test/landscape/garden"
	"github.com/larder-project/larder/test/landscape/image"
	"github.com/larder-project/larder/test/landscape/parts"
	"github.com/larder-project/larder/test/landscape/preflight"
	"github.com/larder-project/larder/test/landscape/progress"
	"github.com/larder-project/larder/test/landscape/sandbox"
)

// builds are the programs and images of a landscape.
type builds struct {
	parts map[string]string
	pause *image.Image
}

// up starts the landscape and shows that it works.
func up(ctx context.Context, l *landscape.Landscape, log *progress.Log) error {
	if err := preflight.Prepare(ctx, log); err != nil {
		return err
	}
	built, err := find(l)
	if err != nil {
		return err
	}
	if err := startAndShow(ctx, l, log, built); err != nil {
		return fmt.Errorf("start the landscape: %w\nRemedy: \"make status\" names the processes that are down, %s has their logs, and \"make up\" repairs what it can",
			err, l.LogDir())
	}
	return nil
}

func startAndShow(ctx context.Context, l *landscape.Landscape, log *progress.Log, built builds) error {
	begin := time.Now()
	if err := bringUp(ctx, l, log, built); err != nil {
		return err
	}
	if err := garden.Install(ctx, l, log); err != nil {
		return err
	}
	log.Note("The landscape is up after %.1f s", time.Since(begin).Seconds())
	return evidence.Show(ctx, l, os.Stdout)
}

// bringUp starts a landscape, or the missing parts of a running one. It starts a new one if the running one has other
// settings or cannot be repaired.
func bringUp(ctx context.Context, l *landscape.Landscape, log *progress.Log, built builds) error {
	reusable, err := isReusable(l, built)
	if err != nil {
		return err
	}
	if reusable {
		err := refreshRoles(ctx, l, log)
		if err == nil {
			err = start(ctx, l, log, built)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		log.Note("Cannot repair the running landscape, starting a new one: %v", err)
	}
	if err := create(ctx, l, log, built); err != nil {
		return err
	}
	return start(ctx, l, log, built)
}

func find(l *landscape.Landscape) (builds, error) {
	cache, err := parts.DefaultCache()
	if err != nil {
		return builds{}, err
	}
	builder := parts.Builder{Repository: l.Repository(), Cache: cache}
	paths, err := builder.Find(parts.External()...)
	if err != nil {
		return builds{}, err
	}
	pause, err := image.New(parts.OwnPath(l.Repository(), parts.Pause), nil)
	return builds{parts: paths, pause: pause}, err
}

// isReusable reports whether a landscape runs with the settings that a new one would have.
func isReusable(l *landscape.Landscape, built builds) (bool, error) {
	if _, err := l.FirstProcess(); err != nil {
		if errors.Is(err, landscape.ErrNotRunning) {
			return false, nil
		}
		return false, err
	}
	files, err := cluster.Files(l, built.settings())
	if err != nil {
		return false, err
	}
	for path, want := range files {
		have, err := os.ReadFile(filepath.Join(l.Dir(), path)) // #nosec G304 -- our own file.
		if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(have, want) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// create removes the remains of an earlier landscape and prepares the files and namespaces of a new one, without
// starting its processes.
func create(ctx context.Context, l *landscape.Landscape, log *progress.Log, built builds) error {
	removed, err := sandbox.Remove(ctx, l)
	if err != nil {
		return err
	}
	for _, what := range removed {
		log.Note("Removed %s of an earlier start", what)
	}

	done := log.Start("Create namespaces for " + l.Dir())
	if err := sandbox.CreateDir(l); err != nil {
		return done(err)
	}
	unlock, err := sandbox.LockNetworks(ctx)
	if err != nil {
		return done(err)
	}
	defer unlock()
	network, err := sandbox.ChooseNetwork(l.ID())
	if err != nil {
		return done(err)
	}
	if err := l.SetNetwork(network); err != nil {
		return done(err)
	}
	if err := writeFiles(l, built); err != nil {
		return done(err)
	}
	return done(sandbox.Start(ctx, l))
}

func (b builds) settings() cluster.Settings {
	return cluster.Settings{PauseImage: b.pause.Reference, Parts: b.parts}
}
