// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// maxEvidence bounds the repositories of a scope that are remembered as evidence, and the evidence of one check.
	maxEvidence = 8
	// maxEvidenceScopes bounds the scopes with evidence, to more credentials than a cache usually has.
	maxEvidenceScopes = 32
)

// evidence remembers one recent request with the same outcome for each repository, to check credentials with. Each
// scope has its own, so that a busy team does not displace the evidence for the credential of another.
type evidence struct {
	mu     sync.Mutex
	scopes *simplelru.LRU[string, *simplelru.LRU[string, noted]]
	count  uint64
}

// noted is a call with its place in the order of all calls.
type noted struct {
	call  call
	order uint64
}

func newEvidence() *evidence {
	return &evidence{scopes: newLRU[string, *simplelru.LRU[string, noted]](maxEvidenceScopes)}
}

// note remembers a call for a manifest or a blob, as one whose response has no body.
func (e *evidence) note(scope string, made call) {
	kind, header := kindBlob+headSuffix, http.Header{}
	if strings.HasPrefix(made.path, manifests) {
		kind, header = kindManifest+headSuffix, http.Header{"Accept": {manifestTypes}}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	calls, ok := e.scopes.Get(scope)
	if !ok {
		calls = newLRU[string, noted](maxEvidence)
		e.scopes.Add(scope, calls)
	}
	e.count++
	calls.Add(made.repository, noted{
		call:  call{kind: kind, method: http.MethodHead, repository: made.repository, path: made.path, header: header},
		order: e.count,
	})
}

// has reports whether there is evidence about a repository.
func (e *evidence) has(scope, repository string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	calls, ok := e.scopes.Peek(scope)
	return ok && calls.Contains(repository)
}

// forget drops the call for a repository.
func (e *evidence) forget(scope, repository string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if calls, ok := e.scopes.Get(scope); ok {
		calls.Remove(repository)
	}
}

// latest returns the calls for repositories that a set serves, the latest first.
func (e *evidence) latest(serves func(repository string) bool) []call {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []noted
	for _, calls := range e.scopes.Values() {
		for _, n := range calls.Values() {
			if serves(n.call.repository) {
				found = append(found, n)
			}
		}
	}
	slices.SortFunc(found, func(a, b noted) int { return cmp.Compare(b.order, a.order) })
	latest := make([]call, 0, maxEvidence)
	for _, n := range found[:min(len(found), maxEvidence)] {
		latest = append(latest, n.call)
	}
	return latest
}
