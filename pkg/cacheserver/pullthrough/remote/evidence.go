// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// maxEvidence bounds the repositories that are remembered as evidence.
const maxEvidence = 8

// evidence remembers one recent request with the same outcome for each repository, to check credentials with.
type evidence struct {
	mu    sync.Mutex
	calls *simplelru.LRU[string, call]
}

func newEvidence() *evidence {
	return &evidence{calls: newLRU[string, call](maxEvidence)}
}

// note remembers a call for a manifest or a blob, as one whose response has no body.
func (e *evidence) note(made call) {
	kind, header := kindBlob+headSuffix, http.Header{}
	if strings.HasPrefix(made.path, manifests) {
		kind, header = kindManifest+headSuffix, http.Header{"Accept": {manifestTypes}}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls.Add(made.repository, call{kind: kind, method: http.MethodHead, repository: made.repository, path: made.path, header: header})
}

// forget drops the call for a repository.
func (e *evidence) forget(repository string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls.Remove(repository)
}

// latest returns the calls, the latest first.
func (e *evidence) latest() []call {
	e.mu.Lock()
	defer e.mu.Unlock()
	calls := e.calls.Values()
	slices.Reverse(calls)
	return calls
}
