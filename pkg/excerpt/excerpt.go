// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package excerpt shortens text that the owner of a Shoot controls, such as the response of a replica or an admission
// webhook of the Shoot, before it becomes part of a status, a condition, an event or a log of the seed.
package excerpt

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const ellipsis = "…"

// Of returns the start of a text, with an ellipsis if it is longer than limit bytes. The limit must have room for an
// ellipsis.
func Of(text string, limit int) string {
	// Cut first, so that the rest of the text costs no time.
	shortened := len(text) > limit
	if shortened {
		end := limit - len(ellipsis)
		for end > 0 && !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end]
	}
	text = strings.ToValidUTF8(text, "?")
	if shortened {
		text += ellipsis
	}
	return text
}

// Line is Of on one line: control characters, which could forge lines of a log or a status, become spaces.
func Line(text string, limit int) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, Of(text, limit))
}

// Error returns an error with a shortened text. errors.Is and errors.As still find the errors that it wraps.
func Error(err error, limit int) error {
	if err == nil || len(err.Error()) <= limit {
		return err
	}
	return &shortenedError{text: Of(err.Error(), limit), err: err}
}

type shortenedError struct {
	text string
	err  error
}

func (e *shortenedError) Error() string { return e.text }

func (e *shortenedError) Unwrap() error { return e.err }
