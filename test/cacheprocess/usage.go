// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheprocess

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of processor time in /proc/<pid>/stat. User space sees 100 per second on every Linux.
const tick = 10 * time.Millisecond

// CPU returns the processor time of the running process so far.
func (s *Server) CPU() (time.Duration, error) { return ProcessCPU(s.process.command.Process.Pid) }

// PeakRSS returns the peak of the resident set of the running process in bytes.
func (s *Server) PeakRSS() (int64, error) { return ProcessPeakRSS(s.process.command.Process.Pid) }

// ProcessCPU returns the processor time, in user and kernel mode, of a process.
func ProcessCPU(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field, the name in parentheses, may contain spaces.
	stat := string(data)
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const utime, stime = 11, 12 // counted from the third field
	if len(fields) <= stime {
		return 0, errors.New("/proc/<pid>/stat has too few fields")
	}
	var total time.Duration
	for _, field := range fields[utime : stime+1] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(ticks) * tick
	}
	return total, nil
}

// ProcessPeakRSS returns the peak of the resident set of a process in bytes.
func ProcessPeakRSS(pid int) (int64, error) { return memory(pid, "VmHWM") }

// ProcessRSS returns the resident set of a process in bytes.
func ProcessRSS(pid int) (int64, error) { return memory(pid, "VmRSS") }

// memory returns a value of /proc/<pid>/status in bytes.
func memory(pid int, name string) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/<pid>/status has no %s", name)
}
