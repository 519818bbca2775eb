// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/larder-project/larder/pkg/credentials"
)

// rejectedFor is how long a credential that was refused is not tried again while another one works.
const rejectedFor = time.Minute

// session is one credential with its tokens.
type session struct {
	// scope names the repositories that the credential is for.
	scope      string
	trial      bool
	credential credentials.Credential
	auth       *authenticator
	// http follows redirects, and authenticates each request.
	http *http.Client
}

// sessions keeps, for each scope of repositories, the credential in use. A new one is taken over when the upstream has
// accepted it; until then, and if it is refused, the old one goes on.
type sessions struct {
	open func(scope string, c credentials.Credential) *session
	// drop is called with a session that is no longer used.
	drop func(*session)
	now  func() time.Time

	mu     sync.Mutex
	scopes map[string]*scope
}

type scope struct {
	active    *session
	candidate *session
	rejected  credentials.Credential
	until     time.Time
}

// choose returns the sessions to try in turn for a credential: the new one first, then the one that worked.
func (s *sessions) choose(name string, c credentials.Credential) []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	sc, ok := s.scopes[name]
	if !ok {
		sc = &scope{active: s.open(name, c)}
		s.scopes[name] = sc
	}
	switch {
	case sc.active.credential == c:
		s.replaceCandidate(sc, nil)
		return []*session{sc.active}
	case sc.rejected == c && s.now().Before(sc.until):
		return []*session{sc.active}
	case sc.candidate == nil || sc.candidate.credential != c:
		s.replaceCandidate(sc, s.open(name, c))
	}
	return []*session{sc.candidate, sc.active}
}

// accepted makes a session the one in use.
func (s *sessions) accepted(name string, candidate *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sc, ok := s.scopes[name]; ok && sc.candidate == candidate {
		s.drop(sc.active)
		sc.active, sc.candidate = candidate, nil
	}
}

// refused notes that the old credential works where the new one does not.
func (s *sessions) refused(name string, candidate *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sc, ok := s.scopes[name]; ok && sc.candidate == candidate {
		sc.rejected, sc.until = candidate.credential, s.now().Add(rejectedFor)
		s.replaceCandidate(sc, nil)
	}
}

// retain forgets all credentials but the given ones, with their tokens.
func (s *sessions) retain(keep []credentials.Credential) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, sc := range s.scopes {
		if sc.candidate != nil && !slices.Contains(keep, sc.candidate.credential) {
			s.replaceCandidate(sc, nil)
		}
		if slices.Contains(keep, sc.active.credential) {
			continue
		}
		s.drop(sc.active)
		if sc.active, sc.candidate = sc.candidate, nil; sc.active == nil {
			delete(s.scopes, name)
		}
	}
}

func (s *sessions) replaceCandidate(sc *scope, candidate *session) {
	if sc.candidate != nil {
		s.drop(sc.candidate)
	}
	sc.candidate = candidate
}
