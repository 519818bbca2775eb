// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package progress

import "io"

// NewTerminal returns a Log with a moving line of the given width.
func NewTerminal(w io.Writer, columns int) *Log {
	return &Log{writer: w, line: &line{writer: w, columns: func() int { return columns }}}
}
