// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"net/http"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

// allowed are the methods that a cache has.
const allowed = "GET, HEAD, OPTIONS"

// ReadOnly lets only requests through that read, without their bodies: nothing behind it reads one, into memory or at
// all. A request to write is refused, and its connection closed, since its body would otherwise come before the next
// request.
func (a API) ReadOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if onlyReads(r.Method) {
			next.ServeHTTP(w, withoutBody(r))
			return
		}
		header := w.Header()
		a.setHeader(header)
		header.Set("Allow", allowed)
		header.Set("Connection", "close")
		_ = errcode.ServeJSON(w, errcode.ErrorCodeUnsupported.WithMessage("a cache takes no content: push to the upstream registry"))
	})
}

// onlyReads reports whether a method only reads.
func onlyReads(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// withoutBody drops the body of a request. Distribution would parse a form in it, and keep parts of that in memory and
// in files.
func withoutBody(r *http.Request) *http.Request {
	if r.ContentLength == 0 {
		return r
	}
	bare := *r
	bare.Body, bare.ContentLength, bare.TransferEncoding = http.NoBody, 0, nil
	return &bare
}
