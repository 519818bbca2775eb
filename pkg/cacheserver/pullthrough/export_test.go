// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

// Options are those in effect.
func (e *Engine) Options() Options { return e.options }
