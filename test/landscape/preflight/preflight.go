// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package preflight checks whether a machine can run a landscape, and installs missing packages of the distribution.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/larder-project/larder/test/landscape/cgroup"
	"github.com/larder-project/larder/test/landscape/progress"
)

// CNIPluginDir is the directory of the CNI plugins in Debian's package.
const CNIPluginDir = "/usr/lib/cni"

// ErrUnsupported means that this machine or user cannot run a landscape.
var ErrUnsupported = errors.New("a landscape needs Linux and root, because it creates namespaces, control groups and a network link")

// Check returns ErrUnsupported unless this is Linux and the user is root.
func Check() error {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		return ErrUnsupported
	}
	return nil
}

// requirement is a required program and its package.
type requirement struct {
	program     string
	debianName  string
	description string
}

var requirements = []requirement{
	{"runc", "runc", "runc"},
	{"iptables", "iptables", "iptables"},
	{"nsenter", "util-linux", "nsenter (util-linux)"},
	{"mount", "mount", "mount"},
	{filepath.Join(CNIPluginDir, "ptp"), "containernetworking-plugins", "the CNI plugins in " + CNIPluginDir},
}

// Prepare checks the control groups and installs the programs that landscapes need.
func Prepare(ctx context.Context, log *progress.Log) error {
	hierarchies, err := cgroup.Mounted()
	if err != nil {
		return err
	}
	if err := hierarchies.Check(); err != nil {
		return err
	}
	return install(ctx, log)
}

// install installs the packages of missing programs.
func install(ctx context.Context, log *progress.Log) error {
	absent := missing(lookPath)
	if len(absent) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return lacks(absent)
	}
	var packages []string
	for _, requirement := range absent {
		packages = append(packages, requirement.debianName)
	}
	done := log.Start("Install the packages " + strings.Join(packages, ", "))
	// The packages may be available without a network.
	update := aptGet(ctx, "update", "--quiet")
	install := aptGet(ctx, append([]string{"install", "--quiet", "--yes", "--no-install-recommends"}, packages...)...)
	if absent = missing(lookPath); len(absent) > 0 {
		return done(errors.Join(lacks(absent), update, install))
	}
	return done(nil)
}

func lacks(absent []requirement) error {
	descriptions := make([]string, 0, len(absent))
	for _, requirement := range absent {
		descriptions = append(descriptions, requirement.description)
	}
	return fmt.Errorf("this machine lacks %s: install them", strings.Join(descriptions, ", "))
}

// lookPath also finds programs in directories that are in the landscape's PATH, but on some machines not in root's.
func lookPath(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil || filepath.IsAbs(program) {
		return path, err
	}
	return exec.LookPath(filepath.Join("/usr/sbin", program))
}

// missing returns the requirements without their program.
func missing(find func(string) (string, error)) []requirement {
	return slices.DeleteFunc(slices.Clone(requirements), func(r requirement) bool {
		_, err := find(r.program)
		return err == nil
	})
}

func aptGet(ctx context.Context, args ...string) error {
	command := exec.CommandContext(ctx, "apt-get", args...) // #nosec G204 -- arguments from above.
	command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, output)
	}
	return nil
}
