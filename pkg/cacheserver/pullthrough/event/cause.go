// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package event

import "strings"

// Causes. The cause of an event that failed is that of the upstream, after its reason.
const (
	// CauseNew means that the content was not in the cache, as far as the server remembers.
	CauseNew = "new"
	// CauseExpired, CauseEvicted and CauseCorrupt mean that the content was removed: by age, for space, or because it did
	// not match its digest.
	CauseExpired = "expired"
	CauseEvicted = "evicted"
	CauseCorrupt = "corrupt"
	// CauseMoved means that the tag led to another manifest before.
	CauseMoved = "moved"
	// CauseUnproven means that the content is in the cache, but that the upstream was asked first whether the repository
	// may serve it. The event is a hit if the content itself was not fetched again.
	CauseUnproven = "unproven"
	// CauseList means that lists are fetched whenever the upstream responds.
	CauseList = "list"
	// CauseRefused means that the request was refused without the upstream; the status has the reason.
	CauseRefused = "refused"
	// CauseMissing means that the upstream, asked whether it serves the content to the client, does not have it, or
	// hides it.
	CauseMissing = "not found"
	// CauseNotAllowed means that the upstream, or an account of the cache, does not allow the content to the client,
	// and CauseTooMany that the upstream is not asked at the moment. CauseUndecided means that it did not decide.
	CauseNotAllowed = "not allowed"
	CauseTooMany    = "too many checks"
	CauseUndecided  = "permission not checked"
	// CauseClientLeft and CauseClientSlow mean that the client disconnected, or was disconnected for being too slow.
	CauseClientLeft = "client left"
	CauseClientSlow = "client too slow"

	unvalidated = "unvalidated: "
)

// Down and Slow are reasons for a stale response: the upstream is down, or did not respond in time. If it responded with
// an error, its reason is another.
const (
	Down = "down"
	Slow = "slow"
)

// Unvalidated is the cause of a stale response.
func Unvalidated(reason string) string { return unvalidated + reason }

// Bounds of texts that clients or the upstream choose. A repository and a digest of the specification fit.
const (
	MaxRepository = 255
	MaxReference  = 135
	MaxCause      = 200
)

// Bound returns at most limit bytes of a text, in memory of its own: a name from a path would otherwise keep the whole
// request line, query included.
func Bound(text string, limit int) string {
	if len(text) <= limit {
		return strings.Clone(text)
	}
	const ellipsis = "…"
	return strings.ToValidUTF8(text[:limit-len(ellipsis)], "") + ellipsis
}
