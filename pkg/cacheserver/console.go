// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
)

// consoleFormatter formats entries for a terminal: time of day, message and fields. An event becomes a short sentence. Of
// Distribution's entries, which have twenty fields, consoleFormatter keeps only errors, without most of the fields.
type consoleFormatter struct{}

// fieldDistribution is a field of all entries of Distribution. The others are the fields to keep.
const (
	fieldDistribution = "go.version"
	fieldRepository   = "vars.name"
	fieldMethod       = "http.request.method"
	fieldURI          = "http.request.uri"
	fieldStatus       = "http.response.status"
	fieldError        = "err.message"
)

// Format implements logrus.Formatter.
func (consoleFormatter) Format(entry *logrus.Entry) ([]byte, error) {
	var line strings.Builder
	line.WriteString(entry.Time.Format(time.TimeOnly) + " ")
	if entry.Level <= logrus.WarnLevel {
		line.WriteString(entry.Level.String() + ": ")
	}
	_, distribution := entry.Data[fieldDistribution]
	_, isEvent := entry.Data["outcome"]
	switch status, ok := entry.Data[fieldStatus]; {
	case isEvent && entry.Message == event.Message:
		line.WriteString(sentence(entry.Data))
	case distribution && entry.Level > logrus.ErrorLevel:
		return nil, nil
	case distribution && ok:
		fmt.Fprintf(&line, "%v %s returned status %v", entry.Data[fieldMethod], printable(entry.Data[fieldURI]), status)
		if message, ok := entry.Data[fieldError]; ok {
			line.WriteString(": " + printable(message))
		}
	default:
		line.WriteString(printable(entry.Message))
		for _, key := range slices.Sorted(maps.Keys(entry.Data)) {
			if value := printable(entry.Data[key]); key != fieldDistribution && value != "" {
				line.WriteString(" " + key + "=" + delimited(value))
			}
		}
	}
	line.WriteString("\n")
	return []byte(line.String()), nil
}

// sentence describes an event by its fields.
func sentence(fields logrus.Fields) string {
	object := printable(fields["repository"])
	switch reference := printable(fields["reference"]); {
	case reference == "":
		object += " " + printable(fields["kind"])
	case strings.Contains(reference, ":"):
		object += "@" + reference
	default:
		object += ":" + reference
	}
	text := fmt.Sprintf("%v %s: %v", fields["method"], object, fields["outcome"])
	if cause := printable(fields["cause"]); cause != "" {
		text += " (" + cause + ")"
	}
	return fmt.Sprintf("%s, %v bytes in %v ms", text, fields["bytes"], fields["milliseconds"])
}

// printable renders a value without control characters, which a terminal would interpret.
func printable(value any) string {
	text := fmt.Sprint(value)
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// delimited quotes printable text that contains spaces.
func delimited(text string) string {
	if strings.Contains(text, " ") && !strings.HasPrefix(text, `"`) {
		return strconv.Quote(text)
	}
	return text
}
