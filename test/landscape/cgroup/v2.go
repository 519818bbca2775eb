// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

var (
	// required2 are the controllers of version 2 that the kubelet requires.
	required2 = []string{"cpu", "cpuset", "memory", "pids"}
	// used2 are the controllers that the kubelet requires if the machine has them.
	used2 = append(slices.Clone(required2), "hugetlb")
)

// v2 is version 2: one hierarchy for all controllers. A group has only those that its parent enables for its children.
type v2 struct {
	root string
}

func (v v2) check() error {
	used, disabled, err := v.controllers()
	if err != nil {
		return err
	}
	if missing := without(required2, used); len(missing) > 0 {
		remedy := bootRemedy
		if !v.isRoot() {
			remedy = "they belong to a container; let the host delegate the controllers to it"
		}
		return lack(v.root, missing, remedy)
	}
	if len(disabled) == 0 || v.isRoot() {
		return nil
	}
	// Any other group can enable controllers only if it holds no processes.
	processes, err := v.read("cgroup.procs")
	if err != nil || len(processes) == 0 {
		return err
	}
	return fmt.Errorf("control group %[1]s belongs to a container and holds processes, so it cannot enable controllers for the groups below it "+
		"(%[2]s): move the processes with \"mkdir -p %[1]s/init && xargs -rn1 < %[1]s/cgroup.procs > %[1]s/init/cgroup.procs\"",
		v.root, strings.Join(disabled, ", "))
}

// create also enables the controllers for the children of the group. The kubelet would do that later; until then,
// systemd may disable them at the root because no unit uses them.
func (v v2) create(name string) error {
	used, disabled, err := v.controllers()
	if err != nil {
		return err
	}
	if err := enable(v.root, disabled); err != nil {
		return err
	}
	group := filepath.Join(v.root, name)
	if err := mkdir(group); err != nil {
		return err
	}
	return enable(group, used)
}

// controllers returns the controllers of the root that the kubelet uses, and those of them that are not enabled for its
// children.
func (v v2) controllers() (used, disabled []string, err error) {
	available, err := v.read("cgroup.controllers")
	if err != nil {
		return nil, nil, err
	}
	enabled, err := v.read("cgroup.subtree_control")
	if err != nil {
		return nil, nil, err
	}
	used = without(used2, without(used2, available))
	return used, without(used, enabled), nil
}

// enable makes controllers available to the children of a group.
func enable(group string, controllers []string) error {
	if len(controllers) == 0 {
		return nil
	}
	value := "+" + strings.Join(controllers, " +")
	if err := os.WriteFile(filepath.Join(group, "cgroup.subtree_control"), []byte(value), 0o600); err != nil {
		return fmt.Errorf("enable controllers of control groups: %w", err)
	}
	return nil
}

// isRoot reports whether the visible root is that of the whole hierarchy. In a container with a cgroup namespace, it is
// the container's group, which has a type, unlike the real root.
func (v v2) isRoot() bool {
	_, err := os.Stat(filepath.Join(v.root, "cgroup.type"))
	return errors.Is(err, fs.ErrNotExist)
}

// read returns the words in a control file of the root.
func (v v2) read(file string) ([]string, error) {
	content, err := os.ReadFile(filepath.Join(v.root, file)) // #nosec G304 -- a control file.
	if err != nil {
		return nil, fmt.Errorf("read control groups: %w", err)
	}
	return strings.Fields(string(content)), nil
}

func without(all, excluded []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(item string) bool { return slices.Contains(excluded, item) })
}
