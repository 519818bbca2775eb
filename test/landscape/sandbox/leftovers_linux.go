// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/cgroup"
)

// leftovers returns an error that lists all remains of the landscape on the machine.
func leftovers(l *landscape.Landscape, hierarchies *cgroup.Hierarchies) error {
	var errs []error
	if pid, err := l.FirstProcess(); err == nil {
		errs = append(errs, fmt.Errorf("process %d is still running", pid))
	}
	for _, pid := range processesUnder(l.Dir()) {
		errs = append(errs, fmt.Errorf("process %s is still running a program of %s", pid, l.Dir()))
	}
	if linkExists(l.ID()) {
		errs = append(errs, fmt.Errorf("link %s still exists", l.ID()))
	}
	for _, group := range hierarchies.Existing(l.ID()) {
		errs = append(errs, fmt.Errorf("control group %s still exists", group))
	}

	mounts, err := os.ReadFile("/proc/self/mountinfo")
	errs = append(errs, err)
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, l.Dir()+"/") {
			errs = append(errs, fmt.Errorf("mount still exists: %s", strings.TrimSpace(line)))
		}
	}
	// A landscape writes firewall rules only in its own namespace. Without iptables, or the permission to use it, there
	// cannot be any on the host.
	if rules, err := exec.Command("iptables-save").Output(); err == nil && strings.Contains(string(rules), l.ID()) {
		errs = append(errs, fmt.Errorf("firewall rules of the host mention %s", l.ID()))
	}
	if exists, err := l.Exists(); exists || err != nil {
		errs = append(errs, fmt.Errorf("directory %s still exists", l.Dir()), err)
	}
	return errors.Join(errs...)
}

// processesUnder returns the ids of the processes whose program is, or was before its removal, in the directory.
func processesUnder(dir string) []string {
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil
	}
	var pids []string
	for _, link := range links {
		// Processes that end meanwhile and those of the kernel have no target.
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, dir+"/") {
			pids = append(pids, filepath.Base(filepath.Dir(link)))
		}
	}
	return pids
}
