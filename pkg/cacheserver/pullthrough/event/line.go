// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package event

import (
	"encoding/json"
	"strconv"
	"time"
)

// Message is the message of the log line of an event.
const Message = "Pull"

// Severe reports whether an operator should notice the event: its client got an error, or possibly an old image, or the
// next client has to wait for the same fetch.
func (o Outcome) Severe() bool { return o == Failed || o == Stale || o == Bypassed || o == NotStored }

// Fields returns the fields of the event's log line.
func (e Event) Fields(upstream string) map[string]any {
	return map[string]any{
		"upstream": upstream, "kind": e.Kind, "method": e.Method, "repository": e.Repository, "reference": e.Reference,
		"digest": e.Digest, "node": e.Node, "outcome": string(e.Outcome), "status": e.Status, "bytes": e.Bytes,
		"milliseconds": milliseconds(e.Duration), "cause": e.Cause,
	}
}

// AppendFields appends the same fields to a JSON object, each after a comma.
func (e Event) AppendFields(line []byte, upstream string) []byte {
	for _, field := range [...]struct{ name, value string }{
		{"upstream", upstream}, {"kind", e.Kind}, {"method", e.Method}, {"repository", e.Repository},
		{"reference", e.Reference}, {"digest", e.Digest}, {"node", e.Node}, {"outcome", string(e.Outcome)}, {"cause", e.Cause},
	} {
		line = AppendField(line, field.name, field.value)
	}
	line = append(line, `,"status":`...)
	line = strconv.AppendInt(line, int64(e.Status), 10)
	line = append(line, `,"bytes":`...)
	line = strconv.AppendInt(line, e.Bytes, 10)
	line = append(line, `,"milliseconds":`...)
	return strconv.AppendFloat(line, milliseconds(e.Duration), 'f', -1, 64)
}

// AppendField appends a field to a JSON object, after a comma. The name must not need quoting.
func AppendField(line []byte, name, value string) []byte {
	line = append(line, `,"`...)
	line = append(line, name...)
	line = append(line, `":`...)
	if isPlain(value) {
		line = append(line, '"')
		line = append(line, value...)
		return append(line, '"')
	}
	quoted, _ := json.Marshal(value) // Strings always succeed.
	return append(line, quoted...)
}

// isPlain reports whether a text means the same in JSON.
func isPlain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// milliseconds has a precision of microseconds, since a response from memory takes only a few of them.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
