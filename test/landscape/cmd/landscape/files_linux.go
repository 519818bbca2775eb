// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/cluster"
	"github.com/larder-project/larder/test/landscape/progress"
)

// writeFiles writes the programs, certificates and configuration that the processes need at their start.
func writeFiles(l *landscape.Landscape, built builds) error {
	for _, dir := range []string{
		l.BinDir(), l.LogDir(), l.ConfigDir(), l.PKIDir(),
		filepath.Join(l.VarDir(), "lib"),
		filepath.Join(l.VarDir(), "log"),
		filepath.Join(l.NodeRoot(), "etc", "containerd", "certs.d"),
	} {
		if err := os.MkdirAll(dir, 0o755); err != nil { // #nosec G301 -- read by programs of other users.
			return err
		}
	}
	for name, path := range built.parts {
		if err := landscape.Place(path, filepath.Join(l.BinDir(), name)); err != nil {
			return err
		}
	}
	if _, err := placeProgram(l); err != nil {
		return err
	}
	if err := errors.Join(cluster.WriteCredentials(l), l.CreateAccounts()); err != nil {
		return err
	}
	files, err := cluster.Files(l, built.settings())
	if err != nil {
		return err
	}
	for path, content := range files {
		path = filepath.Join(l.Dir(), path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { // #nosec G301 -- see above.
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil { // #nosec G306 -- no secrets.
			return err
		}
	}
	return nil
}

// refreshRoles replaces the landscape's copy of this program if it differs, and ends the roles that run the old one.
func refreshRoles(ctx context.Context, l *landscape.Landscape, log *progress.Log) error {
	changed, err := placeProgram(l)
	if err != nil || !changed {
		return err
	}
	specs, err := cluster.LoadSpecs(l)
	if err != nil {
		return err
	}
	for _, spec := range specs {
		if spec.Path != l.Program() {
			continue
		}
		if err := l.StopProcess(ctx, spec.Name); err != nil {
			return err
		}
		log.Note("Stopped %s, because its program has changed", spec.Name)
	}
	return nil
}

// placeProgram copies the running program to its path in the landscape and reports whether it has changed. "go run"
// removes the original.
func placeProgram(l *landscape.Landscape) (bool, error) {
	path, err := os.Executable()
	if err != nil {
		return false, err
	}
	same, err := equalFiles(path, l.Program())
	if err != nil || same {
		return false, err
	}
	aside := l.Program() + ".new"
	if err := landscape.Copy(path, aside); err != nil {
		return false, err
	}
	return true, os.Rename(aside, l.Program())
}
