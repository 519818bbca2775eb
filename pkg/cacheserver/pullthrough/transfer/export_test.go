// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// SetStall changes how long a reader may block the others of a transfer without a disk.
func (g *Group) SetStall(d time.Duration) { g.stall = d }

// Join returns a reader of the running transfer for a digest, or nil.
func (g *Group) Join(d digest.Digest) *Reader {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t, ok := g.transfers[d]; ok {
		if r, ok := t.join(); ok {
			return r
		}
	}
	return nil
}
