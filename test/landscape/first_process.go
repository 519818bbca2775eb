// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package landscape

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// InitRole is the argument that makes the landscape's program the first process inside the namespaces.
const InitRole = "init"

// ErrNotRunning means that no process of the landscape exists.
var ErrNotRunning = errors.New("the landscape is not running: start it with \"make up\"")

// FirstProcess returns the host's process ID of the first process inside the namespaces. It inspects the processes
// themselves, because a file could be stale and a process ID reused.
func (l *Landscape) FirstProcess() (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	want := l.Program() + "\x00" + InitRole + "\x00"
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// A process that ended meanwhile is not running.
		line, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err != nil || string(line) != want {
			continue
		}
		status, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "status"))
		if err == nil && isFirst(string(status)) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%w (%s)", ErrNotRunning, l.dir)
}

// isFirst reports whether a process status is that of process 1 of its process namespace.
func isFirst(status string) bool {
	for line := range strings.Lines(status) {
		if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
			fields := strings.Fields(numbers)
			return len(fields) > 0 && fields[len(fields)-1] == "1"
		}
	}
	return false
}
