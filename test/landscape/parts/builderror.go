// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package parts

import (
	"bytes"
	"strings"
)

// BuildError is a go command that failed.
type BuildError struct {
	Err error
	// Output is the end of the command's output, without its progress.
	Output string
}

// Error returns the first line of the output with the reason.
func (f *BuildError) Error() string {
	for line := range strings.Lines(f.Output) {
		// A line of this form names the package of the next ones.
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "# ") {
			return line
		}
	}
	return "go: " + f.Err.Error()
}

// Unwrap returns the error of the command.
func (f *BuildError) Unwrap() error { return f.Err }

// Remedy returns a remedy for the failure.
func (f *BuildError) Remedy() string {
	for _, known := range remedies {
		for _, sign := range known.signs {
			if strings.Contains(f.Output, sign) || strings.Contains(f.Err.Error(), sign) {
				return known.remedy
			}
		}
	}
	return "read the log; if a source file does not compile, check this checkout with \"git status\""
}

// remedies are matched in this order.
var remedies = []struct {
	signs  []string
	remedy string
}{
	{
		signs:  []string{"no space left on device", "disk quota exceeded"},
		remedy: "free disk space (a first build needs about 12 GiB: see go env GOCACHE GOMODCACHE, and TMPDIR)",
	},
	{
		signs:  []string{"checksum mismatch", "SECURITY ERROR"},
		remedy: "a module differs from go.sum: try \"go clean -modcache\", and check go env GOPROXY",
	},
	{
		signs:  []string{"running go 1.", "GOTOOLCHAIN=local"},
		remedy: "install the version of Go that go.mod names, or a later one",
	},
	{
		signs:  []string{"signal: killed", "cannot allocate memory", "out of memory"},
		remedy: "the machine ran out of memory: free some, or compile fewer packages at once with GOMAXPROCS=1",
	},
	{
		signs: []string{"dial tcp", "no such host", "i/o timeout", "connection refused", "connection reset", "TLS handshake",
			"\": unexpected EOF", "proxyconnect", "502 Bad Gateway", "503 Service Unavailable", "504 Gateway", "429 Too Many", "404 Not Found", "410 Gone", "module lookup disabled"},
		remedy: "make sure that this machine can reach the module proxy of \"go env GOPROXY\"",
	},
}

// maxTail is the number of lines that are kept of a command's output.
const maxTail = 50

// tail keeps the last lines.
type tail struct{ lines []string }

func (t *tail) add(line string) {
	if len(t.lines) == maxTail {
		t.lines = t.lines[1:]
	}
	t.lines = append(t.lines, line)
}

func (t *tail) String() string { return strings.Join(t.lines, "\n") }

// lines is a writer that passes on complete lines.
type lines struct {
	rest []byte
	line func(string)
}

func lineWriter(line func(string)) lines { return lines{line: line} }

// Write receives a part of the output.
func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		before, after, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.line(string(before))
		l.rest = after
	}
}
