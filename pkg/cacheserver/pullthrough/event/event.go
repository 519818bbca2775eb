// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package event describes what the cache did for each request: one Event for each, which is logged, counted for its
// repository, and, unless it was a hit, kept for a while.
package event

import "time"

// Outcome is how a request was served.
type Outcome string

const (
	// Hit means that nothing had to be fetched.
	Hit Outcome = "hit"
	// Miss means that the content was fetched for this request.
	Miss Outcome = "miss"
	// Joined means that the request shared a fetch that another request started.
	Joined Outcome = "joined"
	// Stale means that a cached tag was served unvalidated.
	Stale Outcome = "stale"
	// Bypassed means that the content was fetched, but there was no space to store it.
	Bypassed Outcome = "bypassed"
	// NotStored means that the content was fetched, but could not be stored for another reason.
	NotStored Outcome = "notStored"
	// Canceled means that the client left before it had everything.
	Canceled Outcome = "canceled"
	// NotFound means that the upstream does not have the content, or hides it.
	NotFound Outcome = "notFound"
	// Denied means that the client may not have the content.
	Denied Outcome = "denied"
	// Failed means that the content could not be served.
	Failed Outcome = "failed"
)

// Outcomes returns all outcomes.
func Outcomes() []Outcome {
	return []Outcome{Hit, Miss, Joined, Stale, Bypassed, NotStored, Canceled, NotFound, Denied, Failed}
}

// Fetched returns the outcome of a request that started a fetch, or joined one.
func Fetched(joined bool) Outcome {
	if joined {
		return Joined
	}
	return Miss
}

// Event is one request for content and its result. Its texts are bounded and free of secrets, but not escaped: clients
// choose the repository and the reference.
type Event struct {
	Time time.Time
	// Kind is that of the route: manifest, blob, tags or referrers.
	Kind string
	// Method is GET or HEAD.
	Method     string
	Repository string
	// Reference is the tag or digest of the request.
	Reference string
	// Digest is that of the content, if it is known.
	Digest string
	// Node is the address of the client, usually that of a node.
	Node    string
	Outcome Outcome
	// Status is the HTTP status of the response.
	Status int
	// Bytes of content were sent.
	Bytes    int64
	Duration time.Duration
	// Cause says why the request was not a hit; see the constants.
	Cause string
}

// Repository sums up the requests and fetches of one repository.
type Repository struct {
	Name string
	// Requests are the requests that were served, Fetches the objects that were fetched.
	Requests, Fetches int64
	// PushedBytes were sent to clients, PulledBytes were fetched from the upstream.
	PushedBytes, PulledBytes int64
	// FetchSeconds is the sum of the durations of the fetches.
	FetchSeconds float64
}

// MeanFetchSeconds returns the mean duration of a fetch, 0 without fetches.
func (r Repository) MeanFetchSeconds() float64 { return r.FetchSeconds / float64(max(r.Fetches, 1)) }
