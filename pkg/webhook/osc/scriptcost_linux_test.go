// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkScript reports the CPU time that the script takes for 20 caches that respond, in percent of a core.
func BenchmarkScript(b *testing.B) {
	root := b.TempDir()
	script := filepath.Join(root, "script.sh")
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o755); err != nil { // #nosec G306 -- a script.
			b.Fatal(err)
		}
	}
	var list strings.Builder
	for i := range 20 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}
		defer server.Close()
		go func() { _ = server.Serve(listener) }()
		upstream := fmt.Sprintf("registry-%d.example.com", i)
		fmt.Fprintf(&list, "%s 127.0.0.1 %d\n", upstream, listener.Addr().(*net.TCPAddr).Port)
		write(upstream+".toml", hostsMarker)
	}
	write("caches", list.String())
	write("script.sh", hostsScript)
	command := exec.Command(script, "watch")
	command.Env = append(os.Environ(), "REGISTRY_CACHE_DIRECTORY="+root, "REGISTRIES_DIRECTORY="+filepath.Join(root, "certs.d"))
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		_ = command.Wait()
	}()
	time.Sleep(5 * time.Second)
	begin, used := time.Now(), cpuTime(b, command.Process.Pid)
	for b.Loop() {
		time.Sleep(10 * time.Second)
	}
	used = cpuTime(b, command.Process.Pid) - used
	b.ReportMetric(100*used.Seconds()/time.Since(begin).Seconds(), "%core")
}

// cpuTime returns the CPU time of a process and its children that have ended.
func cpuTime(b *testing.B, pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	// The name of the program, in parentheses, may contain spaces.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	var ticks int64
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	const ticksPerSecond = 100 // USER_HZ is the same on all architectures.
	return time.Duration(ticks) * time.Second / ticksPerSecond
}
