// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

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
}

func (q *quirk) note(kind string, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
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

// ofRange reports whether an error may be about the range that was asked for, and not about the object.
func ofRange(err *Error) bool {
	switch err.Status {
	case 0, http.StatusUnauthorized, http.StatusNotFound, http.StatusTooManyRequests:
		return false
	}
	return !isGatewayError(err.Status)
}
