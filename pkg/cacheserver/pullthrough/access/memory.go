// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// maxGrants bounds the grants for repositories, and apart from these, those for single objects.
	maxGrants   = 16 << 10
	maxRefusals = 4 << 10
	// minRefused and maxRefused bound how long a refused credential is not tried again.
	minRefused = time.Minute
	maxRefused = 10 * time.Minute
	// missingFor is how long an object counts as missing: it may be pushed at any time.
	missingFor = 10 * time.Second
)

// identity is a keyed hash of a credential. The zero value is that of anonymous clients.
type identity [16]byte

// holder is a client in a repository.
type holder struct {
	client     identity
	repository string
}

// key is what a client was granted or refused: an object of a repository by its path, or, without a path, the
// repository.
type key struct {
	holder
	path string
}

// clone detaches a key from the request line that its texts are part of.
func (k key) clone() key {
	k.repository, k.path = strings.Clone(k.repository), strings.Clone(k.path)
	return k
}

// grant is a proof of the upstream.
type grant struct {
	// proven is when the upstream served the object to the client, and until when it has to be asked again.
	proven, until time.Time
}

// refusal is the opposite. A refusal that has passed is kept for a while, to double the next one.
type refusal struct {
	until    time.Time
	lasts    time.Duration
	decision decision
}

// memory has the grants and refusals of a kind of clients. Each of the maps is bounded by itself: refusals, which any
// client can cause, cannot displace grants, and grants for single objects, of which a client with one large repository
// can get thousands, cannot displace those for repositories, which last in an outage.
type memory struct {
	mu              sync.Mutex
	wholes, singles *simplelru.LRU[key, grant]
	refusals        *simplelru.LRU[key, refusal]
	// held has the paths of all grants.
	held map[holder]map[string]struct{}
}

func newMemory() *memory {
	m := &memory{held: map[holder]map[string]struct{}{}}
	// NewLRU fails for sizes below 1 only.
	m.wholes, _ = simplelru.NewLRU(maxGrants, m.dropped)
	m.singles, _ = simplelru.NewLRU(maxGrants, m.dropped)
	m.refusals, _ = simplelru.NewLRU[key, refusal](maxRefusals, nil)
	return m
}

// grants has the grants of the kind that a key is for.
func (m *memory) grants(k key) *simplelru.LRU[key, grant] {
	if k.path == "" {
		return m.wholes
	}
	return m.singles
}

// dropped follows a grant that was dropped, for whatever reason.
func (m *memory) dropped(k key, _ grant) {
	delete(m.held[k.holder], k.path)
	if len(m.held[k.holder]) == 0 {
		delete(m.held, k.holder)
	}
}

// grant returns the grant for a key, the zero value if there is none.
func (m *memory) grant(k key) grant {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, _ := m.grants(k).Get(k)
	return g
}

// allow remembers a grant.
func (m *memory) allow(k key, g grant) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k = k.clone()
	m.grants(k).Add(k, g)
	if m.held[k.holder] == nil {
		m.held[k.holder] = map[string]struct{}{}
	}
	m.held[k.holder][k.path] = struct{}{}
	m.refusals.Remove(k)
}

// extend lets a grant last until a time, and returns false if there is none.
func (m *memory) extend(k key, until time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, ok := m.grants(k).Peek(k)
	if ok && until.After(g.until) {
		m.grants(k).Add(k, grant{proven: g.proven, until: until})
	}
	return ok
}

// revoke drops all grants of a client in a repository.
func (m *memory) revoke(h holder) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for path := range m.held[h] {
		k := key{holder: h, path: path}
		m.grants(k).Remove(k)
	}
}

// refusal returns the refusal for a key, if it still counts.
func (m *memory) refusal(k key, now time.Time) (refusal, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.refusals.Get(k)
	return r, ok && now.Before(r.until)
}

// deny remembers a refusal. If the last one has just passed, it lasts twice as long.
func (m *memory) deny(k key, d decision, now time.Time, shortest, longest time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	lasts := shortest
	if last, ok := m.refusals.Peek(k); ok && last.decision == d && now.Sub(last.until) < longest {
		lasts = min(2*last.lasts, longest)
	}
	m.refusals.Add(k.clone(), refusal{until: now.Add(lasts), lasts: lasts, decision: d})
}

// expire drops what no longer counts: grants that not even an outage can extend, and refusals that passed long ago.
func (m *memory) expire(now time.Time, outage time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, grants := range []*simplelru.LRU[key, grant]{m.wholes, m.singles} {
		for _, k := range grants.Keys() {
			if g, _ := grants.Peek(k); !now.Before(g.until) && !now.Before(g.proven.Add(outage)) {
				grants.Remove(k)
			}
		}
	}
	for _, k := range m.refusals.Keys() {
		if r, _ := m.refusals.Peek(k); now.Sub(r.until) > maxRefused {
			m.refusals.Remove(k)
		}
	}
}
