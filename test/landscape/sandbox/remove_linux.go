// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/cgroup"
)

// marker is the file that marks the directory of a landscape. No other directory is ever removed.
const marker = ".landscape"

// CreateDir creates the landscape's directory.
func CreateDir(l *landscape.Landscape) error {
	if err := os.MkdirAll(filepath.Dir(l.Dir()), 0o755); err != nil { // #nosec G301 -- an ordinary directory.
		return err
	}
	// Programs of other users read files in it.
	if err := os.Mkdir(l.Dir(), 0o755); err != nil { // #nosec G301 -- see above.
		return err
	}
	return os.WriteFile(filepath.Join(l.Dir(), marker), nil, 0o600)
}

// Remove ends all processes of the landscape, removes its remains from the machine and verifies that nothing is left.
// It returns what it removed, which is nothing the second time.
func Remove(ctx context.Context, l *landscape.Landscape) ([]string, error) {
	var removed []string
	switch pid, err := endProcesses(ctx, l); {
	case err != nil:
		return removed, err
	case pid != 0:
		removed = append(removed, fmt.Sprintf("process %d and all that it started", pid))
	}
	if gone := waitFor(ctx, 3*time.Second, func() bool { return !linkExists(l.ID()) }); gone != nil {
		// The kernel removes the link with the namespace, which takes time after many pods. A link without a namespace
		// is from an interrupted start.
		if err := removeLink(l.ID()); err != nil {
			return removed, fmt.Errorf("remove link %s: %w", l.ID(), err)
		}
		removed = append(removed, "link "+l.ID())
	}
	hierarchies, err := cgroup.Mounted()
	if err != nil {
		return removed, err
	}
	groups := hierarchies.Existing(l.ID())
	if err := hierarchies.Remove(l.ID()); err != nil {
		return removed, err
	}
	if len(groups) > 0 {
		removed = append(removed, "control group "+l.ID())
	}
	switch existed, err := removeDir(l); {
	case err != nil:
		return removed, err
	case existed:
		removed = append(removed, "folder "+l.Dir())
	}
	return removed, leftovers(l, hierarchies)
}

// endProcesses kills the first process; the kernel then kills all others.
func endProcesses(ctx context.Context, l *landscape.Landscape) (int, error) {
	pid, err := l.FirstProcess()
	if errors.Is(err, landscape.ErrNotRunning) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return 0, fmt.Errorf("kill process %d: %w", pid, err)
	}
	if err := waitFor(ctx, 30*time.Second, func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d/ns/mnt", pid))
		_, gone := l.FirstProcess()
		return err != nil && errors.Is(gone, landscape.ErrNotRunning)
	}); err != nil {
		return 0, fmt.Errorf("wait for the end of process %d: %w", pid, err)
	}
	return pid, nil
}

func removeDir(l *landscape.Landscape) (bool, error) {
	if exists, err := l.Exists(); err != nil || !exists {
		return false, err
	}
	entries, err := os.ReadDir(l.Dir())
	if err != nil {
		return false, err
	}
	_, err = os.Stat(filepath.Join(l.Dir(), marker))
	if errors.Is(err, fs.ErrNotExist) && len(entries) > 0 {
		return false, fmt.Errorf("%s is not the directory of a landscape: refusing to remove it", l.Dir())
	}
	// The marker is removed last, so that an interrupted removal can continue.
	for _, entry := range entries {
		if entry.Name() == marker {
			continue
		}
		if err := os.RemoveAll(filepath.Join(l.Dir(), entry.Name())); err != nil {
			return false, err
		}
	}
	return true, os.RemoveAll(l.Dir())
}

func waitFor(ctx context.Context, timeout time.Duration, condition func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for !condition() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}
