// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// hierarchy is a mounted hierarchy of control groups.
type hierarchy struct {
	path string
	// unified says that it is version 2.
	unified bool
}

// hierarchies reads the content of a mountinfo file.
func hierarchies(mountinfo string) []hierarchy {
	var found []hierarchy
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		mount, source := strings.Fields(before), strings.Fields(after)
		if !ok || len(mount) < 5 || len(source) == 0 {
			continue
		}
		switch source[0] {
		case "cgroup":
			found = append(found, hierarchy{path: mount[4]})
		case "cgroup2":
			found = append(found, hierarchy{path: mount[4], unified: true})
		}
	}
	return found
}

func mountedHierarchies() ([]hierarchy, error) {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	found := hierarchies(string(content))
	if len(found) == 0 {
		return nil, errors.New("no control groups are mounted; the kubelet needs them")
	}
	return found, nil
}

// createCgroups creates a group in every hierarchy, for the kubelet to put the
// pods below.
func createCgroups(name string) error {
	all, err := mountedHierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		if h.unified {
			delegate(h.path)
		}
		if err := os.Mkdir(filepath.Join(h.path, name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) { // #nosec G301 -- as all others.
			return err
		}
		if err := inheritCPUSet(h.path, name); err != nil {
			return fmt.Errorf("prepare control group %s in %s: %w", name, h.path, err)
		}
	}
	return nil
}

// delegate makes the controllers available to groups below the root. Each is
// asked for alone: not every machine has all of them, and the kubelet says
// which one it misses.
func delegate(root string) {
	for _, controller := range []string{"cpu", "cpuset", "memory", "pids", "io", "hugetlb"} {
		_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+"+controller), 0o600)
	}
}

// inheritCPUSet copies what a new group of version 1 does not inherit.
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
		if errors.Is(err, fs.ErrNotExist) {
			continue // The root of version 2.
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(target, value, 0o600); err != nil { // #nosec G703 -- a control file.
			return err
		}
	}
	return nil
}

// removeCgroups removes the group and all below it. The kernel may take a
// moment to let go of groups whose processes were killed.
func removeCgroups(name string) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		left, err := cgroupsLeft(name)
		if err != nil || len(left) == 0 {
			return err
		}
		for _, path := range left {
			if err = removeTree(path); err != nil {
				break
			}
		}
		if err != nil && time.Now().After(deadline) {
			return fmt.Errorf("remove control groups: %w", err)
		}
		if err != nil {
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// cgroupsLeft returns the groups of that name that exist.
func cgroupsLeft(name string) ([]string, error) {
	all, err := mountedHierarchies()
	if err != nil {
		return nil, err
	}
	var left []string
	for _, h := range all {
		path := filepath.Join(h.path, name)
		if _, err := os.Stat(path); err == nil {
			left = append(left, path)
		}
	}
	return left, nil
}

// removeTree removes groups, the innermost first. Their files are not files.
func removeTree(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(path, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
