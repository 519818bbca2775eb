// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

// down reports whether nobody should wait for the upstream's word on what could be served from the cache. To find out when
// it is back, it is asked in the background now and then.
func (e *Engine) down(ask func()) bool {
	if e.upstream.Healthy() {
		return false
	}
	if e.upstream.Probe() {
		ask()
	}
	return true
}
