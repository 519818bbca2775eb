// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"io"
	"os"

	"golang.org/x/term"
)

// eraseLine moves the cursor to the start of the line and erases it.
const eraseLine = "\r\x1b[K"

// line is the moving last line of a terminal. A nil line does not move.
type line struct {
	writer  io.Writer
	columns func() int
	drawn   bool
}

// newLine returns the moving line, or nil if the writer is not a terminal.
func newLine(w io.Writer) *line {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return &line{writer: w, columns: func() int {
		columns, _, err := term.GetSize(int(file.Fd()))
		if err != nil {
			return 80
		}
		return columns
	}}
}

// draw replaces the text of the line. It truncates long texts, because a wrapped line cannot be erased.
func (l *line) draw(text string) {
	if l == nil {
		return
	}
	runes := []rune(text)
	if limit := l.columns() - 1; limit > 0 && len(runes) > limit {
		runes = append(runes[:limit-1:limit-1], '…')
	}
	l.drawn = true
	_, _ = io.WriteString(l.writer, eraseLine+string(runes))
}

// clear erases the line before a permanent one.
func (l *line) clear() {
	if l == nil || !l.drawn {
		return
	}
	l.drawn = false
	_, _ = io.WriteString(l.writer, eraseLine)
}
