// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim

import (
	"net/http"
)

// Wrap puts a handler in front of the registry, for what is odd about it or about the way to it; nil takes it away. The
// other host has none.
func (r *Registry) Wrap(wrapper func(registry http.Handler) http.Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrapper = wrapper
}

func (r *Registry) serveWrapped(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	wrapper := r.wrapper
	r.mu.Unlock()
	handler := http.Handler(http.HandlerFunc(r.serve))
	if wrapper != nil {
		handler = wrapper(handler)
	}
	handler.ServeHTTP(w, req)
}

// RevokeTokens ends all tokens that were issued.
func (r *Registry) RevokeTokens() { r.tokens.revoke() }
