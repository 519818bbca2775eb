// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package page

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/excerpt"
)

// none stands for a value that does not exist.
const none = "–"

// text bounds foreign text. Characters that are not printable become visible: some reverse or hide the text around them.
func text(s string, limit int) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, excerpt.Of(s, limit))
}

// size formats a number of bytes.
func size(bytes float64) string {
	return humanize.IBytes(uint64(max(bytes, 0)))
}

func count(n float64) string {
	return humanize.Comma(int64(n))
}

// percent formats a part of a whole. It rounds down to a tenth, so that 100 % means all.
func percent(part, whole float64) string {
	if whole <= 0 {
		return none
	}
	tenths := math.Floor(1000 * part / whole)
	return fmt.Sprintf("%g %%", tenths/10)
}

// duration formats how long something took, with two or three digits.
func duration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "<1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 10*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return span(d)
}

// span formats a distance in time in its largest unit.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/day)
}

// moment is a point in time for people and for programs.
type moment struct {
	Relative, Exact, Machine string
}

// at describes a time as seen from now.
func at(t, now time.Time) moment {
	m := moment{Exact: t.UTC().Format("2006-01-02 15:04:05 UTC"), Machine: t.UTC().Format(time.RFC3339)}
	switch distance := now.Sub(t); {
	case distance >= time.Second:
		m.Relative = span(distance) + " ago"
	case distance <= -time.Second:
		m.Relative = "in " + span(-distance)
	default:
		m.Relative = "now"
	}
	return m
}

// past describes the time of something that has happened. If it is in the future, the clock was set back.
func past(t, now time.Time) moment {
	m := at(t, now)
	if t.After(now) {
		m.Relative = "now"
	}
	return m
}

// shortReference joins a repository and a reference as an image reference, with only the start of a digest. Each may be
// unchecked text of a client.
func shortReference(repository, reference string) string {
	repository = text(repository, maxName)
	const digits = 12
	if d, err := digest.Parse(reference); err == nil && len(d.Encoded()) > digits {
		return repository + "@" + d.Algorithm().String() + ":" + d.Encoded()[:digits] + "…"
	}
	if reference == "" {
		return repository
	}
	return repository + ":" + text(reference, maxName)
}
