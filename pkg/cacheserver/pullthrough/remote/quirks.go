// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// quirkLasts is how long a quirk of the upstream is remembered before it is looked at again.
const quirkLasts = time.Hour

// quirk is something that the upstream does not do as specified, for one or several kinds of requests.
type quirk struct {
	mu    sync.Mutex
	until map[string]time.Time
	// suspected are the kinds whose last request failed with what may be the quirk or a passing fault.
	suspected map[string]bool
}

func (q *quirk) note(kind string, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.remember(kind, now)
}

// suspect notes a failure that may be a quirk or a passing fault. Two in a row are a quirk.
func (q *quirk) suspect(kind string, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.suspected[kind] {
		q.remember(kind, now)
		return
	}
	if q.suspected == nil {
		q.suspected = map[string]bool{}
	}
	q.suspected[kind] = true
}

// dismiss notes that a request did not meet the quirk.
func (q *quirk) dismiss(kind string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.suspected, kind)
}

// remember notes a quirk. The caller holds the lock.
func (q *quirk) remember(kind string, now time.Time) {
	delete(q.suspected, kind)
	if q.until == nil {
		q.until = map[string]time.Time{}
	}
	q.until[kind] = now.Add(quirkLasts)
}

func (q *quirk) has(kind string, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return now.Before(q.until[kind])
}

// asGet returns the GET request for the object of a HEAD request.
func (c call) asGet() call {
	c.method, c.kind = http.MethodGet, strings.TrimSuffix(c.kind, headSuffix)
	return c
}

// ofMethod reports whether an error may be about the method HEAD, and not about the object. Upstreams refuse it with many a
// status, 404 among them, so only GET tells what is not there.
func ofMethod(err *Error) bool {
	switch err.Status {
	case http.StatusUnauthorized, http.StatusTooManyRequests:
		return false
	case 0:
		return err.brokeOff
	}
	return !isGatewayError(err.Status)
}

// isPassing reports whether an error that may be about the method may as well be a fault that passes.
func isPassing(err *Error) bool {
	return err.Status == 0 || err.Status >= http.StatusInternalServerError && err.Status != http.StatusNotImplemented
}

// ofRange reports whether an error may be about the range that was asked for, and not about the object.
func ofRange(err *Error) bool {
	switch err.Status {
	case 0, http.StatusUnauthorized, http.StatusNotFound, http.StatusTooManyRequests:
		return false
	}
	return !isGatewayError(err.Status)
}
