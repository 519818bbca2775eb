// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/larder-project/larder/pkg/admission/usage"
)

// API servers may truncate warnings of more than 256 characters, and drop warnings beyond a total length.
const (
	// maxWarningNames limits the number of names in a warning.
	maxWarningNames = 3
	// maxWarningNamesLength limits the total length of the names in a warning.
	maxWarningNamesLength = 70
)

// warning is a warning about a valid but risky setting of caches or mirrors.
type warning[C any] struct {
	// format has a verb for the names.
	format string
	// subjects returns the names of those that have the setting.
	subjects func(use *usage.Usage[C]) sets.Set[string]
}

// warnings returns warnings about valid but risky settings. It covers only the changes of an update, so that no warning
// is repeated.
func (r *review[C]) warnings() []string {
	if r.now == nil || r.now.Config == nil {
		return nil
	}
	var warnings []string
	for _, warning := range r.rules.warnings {
		names := warning.subjects(r.now)
		if r.before != nil && r.before.Config != nil {
			names = names.Difference(warning.subjects(r.before))
		}
		if len(names) > 0 {
			warnings = append(warnings, fmt.Sprintf(warning.format, list(sets.List(names))))
		}
	}
	return warnings
}

// list joins names up to a limit. It shows at least the first one, shortened if it is very long.
func list(names []string) string {
	text := shortenTo(names[0], maxWarningNamesLength)
	shown := 1
	for _, name := range names[1:min(len(names), maxWarningNames)] {
		if len(text)+len(name) > maxWarningNamesLength {
			break
		}
		text += ", " + name
		shown++
	}
	if more := len(names) - shown; more > 0 {
		return fmt.Sprintf("%s and %d more", text, more)
	}
	return text
}
