// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"

	"github.com/opencontainers/go-digest"
)

// down reports whether nobody should wait for the upstream's word on a tag that could be served from the cache. To find
// out when it is back, such a tag is validated in the background now and then.
func (e *Engine) down(repository, tag string) bool {
	if e.upstream.Healthy() {
		return false
	}
	if e.upstream.Probe() {
		e.resolves.Start(repository+":"+tag, func(ctx context.Context) (digest.Digest, error) {
			return e.validate(ctx, repository, tag)
		})
	}
	return true
}
