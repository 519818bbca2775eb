// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package connection

import (
	"fmt"
	"net/http"
)

// ProxyError means that a proxy refused a request, which therefore did not reach its server.
type ProxyError struct {
	// Status is the HTTP status of the proxy.
	Status int
	// signed means that the request had a credential for the proxy.
	signed bool
}

// RefusedByProxy implements issuer.Refusal.
func (e *ProxyError) RefusedByProxy() {}

func (e *ProxyError) Error() string {
	switch {
	case e.Status == http.StatusProxyAuthRequired && e.signed:
		return "the proxy rejects its credential with status 407"
	case e.Status == http.StatusProxyAuthRequired:
		return "the proxy requires a credential: status 407"
	}
	return fmt.Sprintf("the proxy refuses to connect: status %d", e.Status)
}
