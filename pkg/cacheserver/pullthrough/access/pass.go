// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import "context"

type passKey struct{}

// pass is what the Gate found out about a request that it let through.
type pass struct {
	repository string
	// proven means that the upstream serves the object of the request to the client.
	proven bool
	// apart means that the permission is that of the cache's own credential, which may see more than those who read the
	// same repository.
	apart bool
}

// Passed reports whether the Gate let a request for a repository through. Whatever leads to content asserts this once
// more, in case the path of a request means one repository to the Gate and another to the router behind it.
func (g *Gate) Passed(ctx context.Context, repository string) bool {
	if g == nil {
		return true
	}
	p, ok := ctx.Value(passKey{}).(pass)
	return ok && repository != "" && p.repository == repository
}

// Proven reports whether the upstream itself serves the object of a request to the client, so that it is part of the
// repository of the request.
func Proven(ctx context.Context) bool {
	p, _ := ctx.Value(passKey{}).(pass)
	return p.proven
}

// Apart reports whether what a request finds must not become part of its repository, for others to read.
func Apart(ctx context.Context) bool {
	p, _ := ctx.Value(passKey{}).(pass)
	return p.apart
}
