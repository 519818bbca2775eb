// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	// doubtWindow is within what time a client that comes back makes content doubtful.
	doubtWindow = 10 * time.Minute
	// settledWindow is for how long a verification settles all doubts, so that clients cannot keep the cache hashing.
	settledWindow = time.Hour
	// maxDelivered bounds how many deliveries are remembered.
	maxDelivered = 4096
)

// doubts notices content that clients come back for: who gets a blob, compares it with its digest and has to ask once
// more, has met a disk that lies. The file system knows nothing of that, so the file still looks as it was verified.
type doubts struct {
	mu        sync.Mutex
	delivered map[delivery]time.Time
}

type delivery struct {
	client string
	digest digest.Digest
}

// note remembers that a client got all of a blob.
func (d *doubts) note(client string, blob digest.Digest, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.delivered) >= maxDelivered {
		clear(d.delivered)
	}
	d.delivered[delivery{client, blob}] = now
}

// about reports whether a blob that was last verified at the given time should be verified before this client gets it.
func (d *doubts) about(client string, blob digest.Digest, verified, now time.Time) bool {
	if now.Sub(verified) < settledWindow {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	before, ok := d.delivered[delivery{client, blob}]
	return ok && now.Sub(before) < doubtWindow
}
