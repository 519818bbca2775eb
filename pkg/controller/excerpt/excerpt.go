// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package excerpt shortens text that the owner of a Shoot has a say in, such as
// what a replica or an admission webhook of the Shoot answers, before it goes
// into a status, a condition, an event or a log of the seed.
package excerpt

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const ellipsis = "…"

// Of returns as much of the text as fits into the limit, in bytes. The limit must have room for an ellipsis.
func Of(text string, limit int) string {
	// Cut before anything looks at all of it.
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

// Error returns an error whose text is shortened. What it wraps is still found by errors.Is and errors.As.
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
