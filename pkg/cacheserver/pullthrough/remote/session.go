// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/larder-project/larder/pkg/credentials"
)

// maxSessions bounds the sessions that are kept, to more scopes than a Docker configuration usually has.
const maxSessions = 256

// session is one credential with what the upstream grants it: tokens, within rate limits.
type session struct {
	// scope names the repositories that the credential is for.
	scope      string
	credential credentials.Credential
	// check means that the credential is not the cache's active one, but is being checked, or is that of a guest: its
	// remaining requests are not reported.
	check bool
	// guest means that the credential is not the cache's own, so the client certificate, which is, must not help it.
	guest   bool
	auth    *authenticator
	limiter *limiter
	// http follows redirects and authenticates each request.
	http *http.Client
	// accepted is set with the first success.
	accepted atomic.Bool
}

// sessions keeps the two latest sessions of each scope of repositories: while a new credential is rejected, requests
// alternate between it and the one before, which must keep its tokens and rate limits.
type sessions struct {
	open func(scope string, c credentials.Credential) *session

	mu      sync.Mutex
	byScope *simplelru.LRU[string, []*session] // the latest first
}

// get returns the session of a credential.
func (s *sessions) get(scope string, c credentials.Credential) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, _ := s.byScope.Get(scope)
	i := slices.IndexFunc(kept, func(known *session) bool { return known.credential == c })
	switch {
	case i == 0:
	case i > 0:
		kept = []*session{kept[i], kept[0]}
		s.byScope.Add(scope, kept)
	default:
		kept = append([]*session{s.open(scope, c)}, kept[:min(1, len(kept))]...)
		s.byScope.Add(scope, kept)
	}
	return kept[0]
}

// retain drops all sessions of a set's scopes but those of its credentials.
func (s *sessions) retain(set CredentialSet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep := set.All()
	for _, scope := range s.byScope.Keys() {
		if !set.Serves(scope) {
			continue
		}
		kept, _ := s.byScope.Peek(scope)
		kept = slices.DeleteFunc(slices.Clone(kept), func(known *session) bool { return !slices.Contains(keep, known.credential) })
		if len(kept) == 0 {
			s.byScope.Remove(scope)
		} else {
			s.byScope.Add(scope, kept)
		}
	}
}

// newLRU returns a map that drops the least recently used entry when it is full.
func newLRU[K comparable, V any](size int) *simplelru.LRU[K, V] {
	cache, err := simplelru.NewLRU[K, V](size, nil)
	if err != nil {
		panic(err) // The size is not positive.
	}
	return cache
}
