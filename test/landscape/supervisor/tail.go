// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"os"
	"strings"
)

const tailLines = 15

// tail returns the last lines of a log, or the error of reading it.
func tail(path string) string {
	content, err := os.ReadFile(path) // #nosec G304 -- our own log.
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	return strings.Join(lines, "\n")
}
