// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

// Options are those in effect.
func (e *Engine) Options() Options { return e.options }

// OptionNames are those that a configuration file may have, such as section.name.
func OptionNames() []string { return new(Options).fields(&reader{}).names("") }

func (f fields) names(prefix string) []string {
	var names []string
	for name, field := range f {
		if section, ok := field.(fields); ok {
			names = append(names, section.names(prefix+name+".")...)
			continue
		}
		names = append(names, prefix+name)
	}
	return names
}
