// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// required1 are the controllers of version 1 that the kubelet and runc require.
var required1 = []string{"cpu", "cpuacct", "cpuset", "devices", "freezer", "memory"}

// v1 is version 1: a hierarchy for each controller, and possibly one of version 2 for the other controllers.
type v1 struct {
	root   string
	mounts []mount
}

func (v v1) check() error {
	missing := slices.DeleteFunc(slices.Clone(required1), func(controller string) bool {
		return slices.ContainsFunc(v.mounts, func(m mount) bool {
			return slices.Contains(m.options, controller)
		})
	})
	if len(missing) > 0 {
		return lack(v.root, missing, "mount them, or "+bootRemedy)
	}
	return nil
}

func (v v1) create(name string) error {
	for _, m := range v.mounts {
		if err := mkdir(filepath.Join(m.path, name)); err != nil {
			return err
		}
		if m.fileSystem != "cgroup" {
			continue
		}
		if err := inheritCPUSet(m.path, name); err != nil {
			return fmt.Errorf("prepare control group %s in %s: %w", name, m.path, err)
		}
	}
	return nil
}

// inheritCPUSet copies the values that a new group of version 1 does not inherit.
func inheritCPUSet(root, name string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		target := filepath.Join(root, name, file)
		current, err := os.ReadFile(target) // #nosec G304 -- a control file.
		if errors.Is(err, fs.ErrNotExist) || len(bytes.TrimSpace(current)) > 0 {
			continue
		}
		if err != nil {
			return err
		}
		value, err := os.ReadFile(filepath.Join(root, file)) // #nosec G304 -- a control file.
		if err != nil {
			return err
		}
		if err := os.WriteFile(target, value, 0o600); err != nil { // #nosec G703 -- a control file.
			return err
		}
	}
	return nil
}
