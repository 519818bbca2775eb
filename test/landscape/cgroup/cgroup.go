// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package cgroup creates a control group for the pods of a landscape. It handles the differences between the versions
// of control groups: the kubelet, containerd and runc detect the version themselves and have the same configuration,
// but they expect the group and its controllers to exist.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// mountPoint is the directory in which the kubelet, containerd and runc look for control groups.
const mountPoint = "/sys/fs/cgroup"

// removalTimeout limits the wait for the kernel to release groups whose processes were killed.
const removalTimeout = 10 * time.Second

// Hierarchies are the mounted hierarchies of control groups: one for each controller with version 1, a single one with
// version 2.
type Hierarchies struct {
	mounts  []mount
	version version
}

// version is the difference between the two versions.
type version interface {
	// check returns an error unless groups can have the controllers that pods need.
	check() error
	// create creates the group of that name with these controllers.
	create(name string) error
}

// Mounted returns the hierarchies that are visible to this process.
func Mounted() (*Hierarchies, error) {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parse(string(mountinfo), mountPoint)
}

// Check returns an error with the remedy unless the machine can run pods.
func (h *Hierarchies) Check() error {
	for _, m := range h.mounts {
		if m.readOnly {
			return fmt.Errorf("control groups in %s are mounted read-only: mount them writable; a container must be privileged", m.path)
		}
	}
	return h.version.check()
}

// Create creates the group of that name, in which the kubelet creates those of pods.
func (h *Hierarchies) Create(name string) error { return h.version.create(name) }

// Existing returns the paths of the groups of that name.
func (h *Hierarchies) Existing(name string) []string {
	var groups []string
	for _, m := range h.mounts {
		group := filepath.Join(m.path, name)
		if _, err := os.Stat(group); err == nil {
			groups = append(groups, group)
		}
	}
	return groups
}

// Remove removes the groups of that name with all groups below them. Controllers that Create enabled for all groups of
// the machine stay enabled, because other programs may use them by now.
func (h *Hierarchies) Remove(name string) error {
	deadline := time.Now().Add(removalTimeout)
	for {
		var err error
		for _, group := range h.Existing(name) {
			if err = removeTree(group); err != nil {
				break
			}
		}
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove control groups: %w", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// removeTree removes groups from the inside out. Their files vanish with them.
func removeTree(group string) error {
	entries, err := os.ReadDir(group)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(group, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(group); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// mkdir creates a group if it does not exist.
func mkdir(group string) error {
	if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { // #nosec G301 -- like all others.
		return fmt.Errorf("create control group: %w", err)
	}
	return nil
}

// mount is a mounted file system.
type mount struct {
	path       string
	fileSystem string
	readOnly   bool
	// options are the options of the file system, which include the controllers of a hierarchy of version 1.
	options []string
}

// bootRemedy gives version 2 all controllers of the kernel.
const bootRemedy = "boot the kernel with the parameter cgroup_no_v1=all and without cgroup_disable"

func lack(root string, controllers []string, remedy string) error {
	return fmt.Errorf("control groups in %s lack controllers that pods need (%s): %s", root, strings.Join(controllers, ", "), remedy)
}

// parse parses a mountinfo file. As in the kubelet, the version is 2 if a hierarchy of that version is mounted at root
// itself, and 1 for a mixture of both.
func parse(mountinfo, root string) (*Hierarchies, error) {
	var visible []mount
	for line := range strings.Lines(mountinfo) {
		m, ok := parseMount(line)
		switch {
		case ok && m.path == root:
			visible = append(visible[:0], m) // It hides earlier mounts.
		case ok && m.isHierarchy() && strings.HasPrefix(m.path, root+"/"):
			visible = append(visible, m)
		}
	}
	if len(visible) > 0 && visible[0].path == root {
		if visible[0].fileSystem == "cgroup2" {
			return &Hierarchies{mounts: visible[:1], version: v2{root: root}}, nil
		}
		visible = visible[1:]
	}
	if len(visible) == 0 {
		return nil, fmt.Errorf("no control groups are mounted: run \"mount -t cgroup2 cgroup2 %s\"", root)
	}
	return &Hierarchies{mounts: visible, version: v1{root: root, mounts: visible}}, nil
}

// parseMount parses a line of a mountinfo file, see proc_pid_mountinfo(5).
func parseMount(line string) (m mount, ok bool) {
	before, after, ok := strings.Cut(line, " - ")
	fields, source := strings.Fields(before), strings.Fields(after)
	if !ok || len(fields) < 6 || len(source) < 3 {
		return mount{}, false
	}
	options := strings.Split(source[2], ",")
	return mount{
		path:       fields[4],
		fileSystem: source[0],
		readOnly:   slices.Contains(strings.Split(fields[5], ","), "ro") || slices.Contains(options, "ro"),
		options:    options,
	}, true
}

func (m mount) isHierarchy() bool { return m.fileSystem == "cgroup" || m.fileSystem == "cgroup2" }
