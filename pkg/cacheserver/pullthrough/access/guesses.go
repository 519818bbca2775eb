// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

// The limits of what the upstream does not accept within guessWindow; the package explains them.
const (
	guessWindow = time.Minute
	// maxCredentialGuesses bounds the questions with one credential.
	maxCredentialGuesses = 3
	// The limits of different credentials: per user name and address, per address, per user name, and in all. The third
	// applies once for each known credential of the user name.
	maxUserSourceGuesses, maxSourceGuesses, maxUserGuesses, maxGuesses = 5, 10, 10, 60
	// maxSourceQuestions bounds the questions from an address that try no password: those without a credential, those for
	// which the login succeeded, but the object is missing, and those with each known credential, all apart.
	maxSourceQuestions = 60
	// knownFor is how long a credential is no guess after the upstream has accepted it.
	knownFor = 24 * time.Hour
	// maxBlocked bounds how long a rate limit of the login holds back an address until one question probes it.
	maxBlocked = time.Minute
	// maxKnown bounds the credentials that are known, maxWindows the windows.
	maxKnown, maxWindows = 4 << 10, 8 << 10
)

// guesses bounds the questions that the upstream does not accept. A credential that the upstream has accepted lately is
// known: it is no guess, and nothing but its own refusals at the same address holds it back. The accounts of the cache
// are known, since their passwords are not the upstream's.
//
// Any other credential is a guess until the upstream has accepted it for some repository: it asks one question at a
// time, which decides for those that wait. What counts are different credentials, not questions, because a pull secret
// that has expired is one secret in many pods.
type guesses struct {
	mu    sync.Mutex
	known *simplelru.LRU[identity, knownCredential]
	// sharing is how many known credentials a user has.
	sharing map[identity]int
	// refused has the refusals, running the number of questions that are being asked.
	refused *simplelru.LRU[suspect, window]
	running map[suspect]int
	// blocked is until when a rate limit of the login holds back an address. One question at a time probes it then.
	blocked *simplelru.LRU[netip.Addr, time.Time]
	// ended is closed, and replaced, when a question ends.
	ended chan struct{}
}

type knownCredential struct {
	user  identity
	until time.Time
}

// suspect is what refusals are counted for.
type suspect struct {
	kind   kind
	id     identity
	source netip.Addr
}

type kind int

const (
	inAll kind = iota
	ofCredential
	ofUser
	ofUserAtSource
	ofSource
	withoutCredential
	afterLogin
	ofKnown
)

// countsQuestions means that each question counts, and not each credential once.
func (k kind) countsQuestions() bool { return k == ofCredential || k >= withoutCredential }

// isShared means that clients at all addresses share the limit, so that an address with refusals gets half of it only.
func (k kind) isShared() bool { return k == inAll || k == ofUser }

// bound is how many refusals of a suspect there may be within a window.
type bound struct {
	suspect
	most int
}

// window has the latest refusals of a suspect, the oldest first. Its limit bounds it, since a question that is not
// admitted cannot be refused.
type window []refusedOne

type refusedOne struct {
	id identity
	at time.Time
}

func newGuesses() *guesses {
	g := &guesses{sharing: map[identity]int{}, running: map[suspect]int{}, ended: make(chan struct{})}
	// NewLRU fails for sizes below 1 only.
	g.known, _ = simplelru.NewLRU(maxKnown, g.forgotten)
	g.refused, _ = simplelru.NewLRU[suspect, window](maxWindows, nil)
	g.blocked, _ = simplelru.NewLRU[netip.Addr, time.Time](maxWindows, nil)
	return g
}

// forgotten follows a credential that is no longer known.
func (g *guesses) forgotten(_ identity, c knownCredential) {
	if g.sharing[c.user]--; g.sharing[c.user] == 0 {
		delete(g.sharing, c.user)
	}
}

// guess is one question.
type guess struct {
	client client
	// known means that the credential is known, so that the question is no guess.
	known bool
	// counted means that the question keeps a place in its limits.
	counted bool
}

// bounds returns the limits of a question.
func (g *guesses) bounds(q guess) []bound {
	c := q.client
	switch {
	case c.isAnonymous():
		return []bound{{suspect{kind: withoutCredential, source: c.source}, maxSourceQuestions}}
	case q.known:
		return []bound{{suspect{kind: ofKnown, id: c.id, source: c.source}, maxSourceQuestions}}
	}
	return []bound{
		{suspect{kind: ofCredential, id: c.id}, maxCredentialGuesses},
		{suspect{kind: ofUserAtSource, id: c.user, source: c.source}, maxUserSourceGuesses},
		{suspect{kind: ofSource, source: c.source}, maxSourceGuesses},
		{suspect{kind: ofUser, id: c.user}, maxUserGuesses * max(1, g.sharing[c.user])},
		{suspect{kind: afterLogin, source: c.source}, maxSourceQuestions},
		{suspect{}, maxGuesses},
	}
}

// suspects reports whether a limit of its address may hold back a client with a credential: that is not known, or was
// refused something at the address within the last minute.
func (g *guesses) suspects(c client, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.isAnonymous() {
		return false
	}
	return !g.knows(c, now) || len(g.window(suspect{kind: ofKnown, id: c.id, source: c.source}, now)) > 0
}

// knows reports whether a client's credential is known. The caller holds the lock.
func (g *guesses) knows(c client, now time.Time) bool {
	known, ok := g.known.Get(c.id)
	return c.isCache || ok && now.Before(known.until)
}

// begin waits for the turn of a question. Held is whether it renews a grant, for which a known credential needs no
// limit. It fails with a guessesError if too much was refused, and with the cause of ctx. Otherwise, leave must follow.
func (g *guesses) begin(ctx context.Context, c client, held bool, now func() time.Time) (guess, error) {
	for {
		q, ended, err := g.admit(c, held, now())
		if ended == nil {
			return q, err
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return q, context.Cause(ctx)
		}
	}
}

// admit starts a question, fails, or returns what to wait for. A question that is being asked keeps a place free in
// case it is refused, so that concurrent ones cannot exceed a limit.
func (g *guesses) admit(c client, held bool, now time.Time) (q guess, ended chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	q = guess{client: c, known: g.knows(c, now)}
	if q.known && held {
		return q, nil, nil
	}
	source := suspect{kind: ofSource, source: c.source}
	isRepeated, wait := g.refused.Contains(suspect{kind: ofCredential, id: c.id}), false
	if until, ok := g.blocked.Get(c.source); ok && c.isTenant() && !q.known {
		if isRepeated {
			until = until.Add(maxBlocked) // A credential that was never refused probes first.
		}
		if now.Before(until) {
			return q, nil, guessesError{retryAfter: until.Sub(now)}
		}
		wait = g.running[source] > 0
	}
	bounds := g.bounds(q)
	for _, b := range bounds {
		w, most := g.window(b.suspect, now), b.most
		if !b.kind.countsQuestions() {
			isNew := !slices.ContainsFunc(w, func(r refusedOne) bool { return r.id == c.id })
			if isNew && isRepeated || b.kind.isShared() && len(g.window(source, now)) > 0 {
				most /= 2
			}
		}
		if len(w) >= most {
			return q, nil, guessesError{retryAfter: w[len(w)-most].at.Add(guessWindow).Sub(now), known: q.known}
		}
		if b.kind.isShared() && g.running[source] > 0 {
			most = b.most / 2 // If the question is refused, this is the limit.
		}
		wait = wait || len(w)+g.running[b.suspect] >= most || b.kind == ofCredential && g.running[b.suspect] > 0
	}
	switch {
	case wait && c.isAnonymous():
		return q, nil, guessesError{} // Clients have a credential, or another source.
	case wait:
		return q, g.ended, nil
	}
	for _, b := range bounds {
		g.running[b.suspect]++
	}
	q.counted = true
	return q, nil, nil
}

// leave ends the turn of a question.
func (g *guesses) leave(q guess) {
	if !q.counted {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, b := range g.bounds(q) {
		if g.running[b.suspect]--; g.running[b.suspect] == 0 {
			delete(g.running, b.suspect)
		}
	}
	close(g.ended)
	g.ended = make(chan struct{})
}

// record takes the response to a question. Whatever is no acceptance counts as a refusal, since an upstream that
// protects itself from guesses may respond in many ways. The exceptions say nothing about the credential: an outage,
// and a missing object after a login that succeeded. For a known credential, the latter counts, and a rate limit does
// not: the client of the upstream observes that.
func (g *guesses) record(q guess, err error, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if q.client.isTenant() {
		g.learn(q, err, now)
	}
	if err == nil || !q.counted || remote.IsOutage(err) || q.known && remote.Is(err, remote.RateLimited) {
		return
	}
	var refusal *remote.Error
	isMissing := errors.As(err, &refusal) && refusal.Reason == remote.NotFound && refusal.LoggedIn
	for _, b := range g.bounds(q) {
		if q.client.isAnonymous() || q.known || isMissing == (b.kind == afterLogin) {
			g.count(b.suspect, q.client.id, now)
		}
	}
}

// learn takes what a response says about a credential, and about the login.
func (g *guesses) learn(q guess, err error, now time.Time) {
	c := q.client
	switch until, blocked := g.blocked.Peek(c.source); {
	case remote.IsLogin(err, remote.RateLimited):
		g.blocked.Add(c.source, now.Add(min(retryAfter(err), maxBlocked)))
	case blocked && q.counted && !now.Before(until):
		g.blocked.Remove(c.source)
	}
	switch {
	case err == nil:
		if !g.known.Contains(c.id) {
			g.sharing[c.user]++
		}
		g.known.Add(c.id, knownCredential{user: c.user, until: now.Add(knownFor)})
		g.acquit(c)
	case remote.IsLogin(err, remote.Unauthorized) && remote.StatusOf(err) != http.StatusForbidden:
		g.known.Remove(c.id) // With 403, token services refuse a permission.
	}
}

// acquit no longer counts what was refused to a credential.
func (g *guesses) acquit(c client) {
	for _, b := range g.bounds(guess{client: c}) {
		if b.kind == ofCredential {
			g.refused.Remove(b.suspect)
		} else if w, ok := g.refused.Peek(b.suspect); ok {
			g.refused.Add(b.suspect, without(w, c.id))
		}
	}
}

// count counts a refusal.
func (g *guesses) count(s suspect, id identity, now time.Time) {
	w := g.window(s, now)
	if s.kind.countsQuestions() {
		w = slices.Clone(w)
	} else {
		w = without(w, id)
	}
	g.refused.Add(s, append(w, refusedOne{id: id, at: now}))
}

// without returns a window without a credential.
func without(w window, id identity) window {
	return slices.DeleteFunc(slices.Clone(w), func(r refusedOne) bool { return r.id == id })
}

// window returns the refusals of a suspect that count.
func (g *guesses) window(s suspect, now time.Time) window {
	w, _ := g.refused.Get(s)
	return w[len(w)-w.left(now):]
}

// left returns the number of refusals that count.
func (w window) left(now time.Time) int {
	for i, r := range w {
		if now.Sub(r.at) < guessWindow {
			return len(w) - i
		}
	}
	return 0
}

// expire drops what no longer counts. That a credential was refused is remembered for longer.
func (g *guesses) expire(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range g.known.Keys() {
		if known, _ := g.known.Peek(id); !now.Before(known.until) {
			g.known.Remove(id)
		}
	}
	for _, s := range g.refused.Keys() {
		if w, _ := g.refused.Peek(s); s.kind != ofCredential && w.left(now) == 0 {
			g.refused.Remove(s)
		}
	}
}
