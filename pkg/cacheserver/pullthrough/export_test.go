// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"reflect"
	"strings"
)

// Options returns the options in effect.
func (e *Engine) Options() Options { return e.options }

// OptionNames returns the names of all options of a configuration file, such as timeouts.idle.
func OptionNames() []string { return optionNames("", reflect.TypeFor[settings]()) }

func optionNames(prefix string, section reflect.Type) []string {
	var names []string
	for field := range section.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("option"), ",")
		switch {
		case name == "":
		case field.Type.Kind() == reflect.Struct:
			names = append(names, optionNames(prefix+name+".", field.Type)...)
		default:
			names = append(names, prefix+name)
		}
	}
	return names
}
