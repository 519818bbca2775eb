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

// quirkLasts is how long a quirk is remembered before it is tested again.
const quirkLasts = time.Hour

// quirk is a deviation of the upstream from the specification, for some kinds of requests.
type quirk struct {
	mu    sync.Mutex
	until map[string]time.Time
	// suspected are the kinds whose last failure may be due to the quirk or to a transient fault.
	suspected map[string]bool
}

func (q *quirk) note(kind string, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.remember(kind, now)
}

// suspect records a failure that may be due to the quirk or to a transient fault. Two in a row confirm the quirk.
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

// dismiss records a request without the quirk.
func (q *quirk) dismiss(kind string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.suspected, kind)
}

// remember records the quirk. The caller holds the lock.
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

// ofMethod reports whether an error may be about the method HEAD, and not about the object. Upstreams refuse HEAD with
// various statuses, 404 among them, so only GET shows that an object is missing.
func ofMethod(err *Error) bool {
	switch err.Status {
	case http.StatusUnauthorized, http.StatusTooManyRequests:
		return false
	case 0:
		return err.brokeOff
	}
	return !isGatewayError(err.Status)
}

// isTransient reports whether an error that may be about the method may just as well be a transient fault.
func isTransient(err *Error) bool {
	return err.Status == 0 || err.Status >= http.StatusInternalServerError && err.Status != http.StatusNotImplemented
}

// ofRange reports whether an error may be about the requested range, and not about the object.
func ofRange(err *Error) bool {
	switch err.Status {
	case 0, http.StatusUnauthorized, http.StatusNotFound, http.StatusTooManyRequests:
		return false
	}
	return !isGatewayError(err.Status)
}
