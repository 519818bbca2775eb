// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/route"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/limit"
)

const (
	// extension is how long a grant is extended at a time, until the upstream is asked again.
	extension = 30 * time.Second
	// limitedGrants is how many times GrantDuration a grant lasts at most while a rate limit keeps the upstream from
	// confirming it.
	limitedGrants = 3
	// publicWait bounds how long a client without a credential waits for its turn and, while the upstream counts as down,
	// for the response.
	publicWait = 2 * time.Second
)

// client identifies the client for which the upstream is asked. The zero value is a client without a credential.
type client struct {
	id, user identity
	// credential is that of a tenant, the zero value for others.
	credential credentials.Credential
	source     netip.Addr
	// isCache means the cache itself, for its accounts.
	isCache bool
	// hasOther marks the anonymous question that precedes one with a credential. It does not wait for its turn, which
	// clients without a credential could delay.
	hasOther bool
	// mayReturn marks a client without a credential that may have one, which it presents when it is challenged.
	mayReturn bool
}

func (c client) isTenant() bool { return c.credential != credentials.Credential{} }

func (c client) isAnonymous() bool { return !c.isTenant() && !c.isCache }

// cache returns the client for accounts at an address: they read what the cache's own credential opens, and nothing that
// only a tenant may see.
func (g *Gate) cache(source netip.Addr) client {
	return client{id: g.identify(), source: source, isCache: true}
}

// client returns the client with a credential at an address. Many registries ignore the case of user names, so guesses
// for a user count whatever their case.
func (g *Gate) client(c credentials.Credential, source netip.Addr) client {
	user := g.identify(strings.ToLower(strings.TrimSpace(c.Username)))
	return client{id: g.identify(c.Username, c.Password), user: user, credential: c, source: source}
}

// sourceOf returns the address of a client.
func sourceOf(remoteAddress string) netip.Addr {
	if address, err := netip.ParseAddrPort(remoteAddress); err == nil {
		return address.Addr().Unmap()
	}
	return netip.IPv6Unspecified() // All that have no address count as one.
}

// identify returns the hash of some texts, with their lengths, so that no two lists of texts look the same.
func (g *Gate) identify(texts ...string) (id identity) {
	hash := hmac.New(sha256.New, g.secret[:])
	for _, text := range texts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(text)))
		_, _ = hash.Write(length[:])
		_, _ = io.WriteString(hash, text)
	}
	copy(id[:], hash.Sum(nil))
	return id
}

func (g *Gate) memory(c client) *memory {
	if c.isAnonymous() {
		return g.anonymous
	}
	return g.clients
}

// recollection is what the Gate remembers about a client and an object.
type recollection struct {
	// known means that found decides. Otherwise, the upstream has to be asked.
	known bool
	found result
	// held means that the client had a grant, which may be extended.
	held bool
}

// look looks into the memory. Only for a client with a grant for the repository, it looks at the volume as well.
func (g *Gate) look(c client, o object) recollection {
	m, now := g.memory(c), g.Now()
	single := grant{}
	if proof := o.proof(c); proof.path != "" {
		single = m.grant(proof)
	}
	whole, proven := m.grant(o.whole(c)), now.Before(single.until)
	counts, extendable := now.Before(whole.until), now.Before(whole.proven.Add(g.OutageGrantDuration))
	covered := !proven && (counts || extendable) && g.covers(o)
	if proven || covered && counts {
		until := single.until
		if whole.until.After(until) {
			until = whole.until
		}
		g.pays(c, o, until)
		return recollection{known: true, found: passed(c, o, proven)}
	}
	for _, k := range []key{o.single(c), o.whole(c)} {
		if r, ok := m.refusal(k, now); ok {
			return recollection{known: true, found: result{decision: r.decision}}
		}
	}
	return recollection{held: covered && extendable}
}

// covers reports whether the permission to read a repository includes an object.
func (g *Gate) covers(o object) bool {
	return o.kind != route.Blob && o.digest == "" || g.Owns(o.kind, o.repository, o.digest)
}

// pays lets fetches from a repository be made with the credential of a client until a time.
func (g *Gate) pays(c client, o object, until time.Time) {
	if c.isTenant() {
		g.Guests.add(o.repository, payer{id: c.id, credential: c.credential, until: until})
	}
}

func passed(c client, o object, proven bool) result {
	return result{pass: pass{repository: o.repository, proven: proven, apart: c.isCache}, decision: decisionOf(c, nil)}
}

// check decides whether a client may read an object, which has to be valid.
func (g *Gate) check(ctx context.Context, c client, o object) result {
	past := g.look(c, o)
	switch {
	case past.known:
		return past.found
	case past.held && g.Health.Down(func() {}):
		// An upstream that counts as down may still answer this question: its blobs may fail, but not its manifests.
		g.start(c, o, o.proof(c), true)
		if g.extend(c, o, g.OutageGrantDuration) {
			return passed(c, o, false)
		}
	}
	d, err := g.ask(ctx, c, o)
	return g.conclude(c, o, past.held, d, err)
}

// question is what the upstream is asked. Clients with a credential do not join a question that waits for its turn.
type question struct {
	key
	hasOther bool
	// source is the address of a client that may be held back because of it, so that clients at other addresses are not.
	source netip.Addr
}

// start starts a question to the upstream, or joins the one that is being asked. Unless it is extended, what another
// question has decided meanwhile makes this one unnecessary: one that ended since the look into the memory, or one of
// the same client at another address that had its turn first.
func (g *Gate) start(c client, o object, k key, extended bool) *coalesce.Call[decision] {
	asked := question{key: k.clone(), hasOther: c.hasOther}
	if g.guesses.suspects(c, g.Now()) {
		asked.source = c.source
	}
	call, _ := g.asking.Start(asked, func(ctx context.Context) (decision, error) {
		past := g.look(c, o)
		if past.known && !extended {
			return past.found.decision, nil
		}
		q, leave, err := g.turn(ctx, c, past.held)
		if err != nil {
			return decisionOf(c, err), err
		}
		defer leave()
		if past = g.look(c, o); past.known && !extended {
			return past.found.decision, nil
		}
		asOf, err := g.authorize(ctx, q, o)
		d := decisionOf(c, err)
		g.remember(c, o, d, asOf)
		return d, err
	})
	return call
}

// turn waits for the turn of a client to ask the upstream; then leave must follow. Held is whether the client had a
// grant. Questions about what was public before, and those that renew the grant of a known credential, need no limit:
// one refusal ends the grant.
func (g *Gate) turn(ctx context.Context, c client, held bool) (q guess, leave func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, g.MaxWait, limit.ErrBusy)
	defer cancel()
	q = guess{client: c}
	if !c.isAnonymous() {
		if q, err = g.guesses.begin(ctx, c, held, g.Now); err != nil {
			return q, nil, err
		}
	}
	release, err := g.slot(ctx, q)
	if err != nil {
		g.guesses.leave(q)
		return q, nil, err
	}
	if c.isAnonymous() && !held {
		if q, err = g.guesses.begin(ctx, c, held, g.Now); err != nil {
			release()
			return q, nil, err
		}
	}
	return q, func() {
		g.guesses.leave(q)
		release()
	}, nil
}

// authorize asks the upstream.
func (g *Gate) authorize(ctx context.Context, q guess, o object) (asOf time.Time, err error) {
	if q.client.isCache {
		asOf, err = g.Upstream.AuthorizeOwn(ctx, o.repository, o.path)
	} else {
		asOf, err = g.Upstream.Authorize(ctx, o.repository, o.path, q.client.credential, g.GrantDuration/2)
	}
	g.guesses.record(q, err, g.Now())
	return asOf, err
}

// slot waits for a slot for a question.
func (g *Gate) slot(ctx context.Context, q guess) (release func(), err error) {
	switch c := q.client; {
	case c.hasOther:
		release, ok := g.first.TryAcquire()
		if !ok {
			return nil, limit.ErrBusy
		}
		return release, nil
	case c.isAnonymous():
		ctx, cancel := context.WithTimeoutCause(ctx, publicWait, limit.ErrBusy)
		defer cancel()
		return g.public.Acquire(ctx)
	case !q.known:
		return g.unknown.Acquire(ctx)
	}
	// First the client's own share: what waits for that must not wait before others.
	own, err := g.shares.Acquire(ctx, q.client.id)
	if err != nil {
		return nil, err
	}
	slot, err := g.known.Acquire(ctx)
	if err != nil {
		own()
		return nil, err
	}
	return func() {
		slot()
		own()
	}, nil
}

// remember remembers what the upstream decided. A denial ends whatever the client was granted in the repository, so
// that no outage can bring that back.
func (g *Gate) remember(c client, o object, d decision, asOf time.Time) {
	m, now := g.memory(c), g.Now()
	switch {
	case d.passes():
		proof := grant{proven: now, until: asOf.Add(g.GrantDuration)}
		m.allow(o.proof(c), proof)
		if o.isManifest() {
			m.allow(o.whole(c), proof)
		}
		g.pays(c, o, proof.until)
	case d == denied:
		g.revoke(o.holder(c))
		refused, longest := o.single(c), maxRefused
		if o.isManifest() {
			refused = o.whole(c)
		}
		if !c.isTenant() {
			longest = minRefused // No credential can be locked out, and the repository may become public.
		}
		m.deny(refused, d, now, minRefused, longest)
	case d == missing:
		if !now.Before(m.grant(o.whole(c)).until) {
			g.revoke(o.holder(c)) // Some registries hide what they do not serve.
		}
		m.deny(o.single(c), d, now, missingFor, missingFor)
	}
}

// revoke drops all grants of a client in a repository.
func (g *Gate) revoke(h holder) {
	if h.client == (identity{}) {
		g.anonymous.revoke(h)
		return
	}
	g.clients.revoke(h)
	g.Guests.remove(h.repository, h.client)
}

// ask waits until the upstream was asked. Clients that wait for the same proof share one question.
func (g *Gate) ask(ctx context.Context, c client, o object) (decision, error) {
	d, err := g.wait(ctx, c, g.start(c, o, o.proof(c), false))
	if _, ok := g.memory(c).refusal(o.single(c), g.Now()); d == missing && !ok {
		// The shared question was about another tag of the repository.
		d, err = g.wait(ctx, c, g.start(c, o, o.single(c), false))
	}
	return d, err
}

// wait waits for the end of a question. While the upstream counts as down, the question goes on without a client that
// may return: that may have a grant.
func (g *Gate) wait(ctx context.Context, c client, call *coalesce.Call[decision]) (decision, error) {
	if c.mayReturn && !g.Health.Healthy() {
		return call.WaitUntil(ctx, time.Now().Add(publicWait))
	}
	return call.Wait(ctx)
}

// conclude decides after the upstream was asked. Held means that the client had a grant before.
func (g *Gate) conclude(c client, o object, held bool, d decision, err error) result {
	var most time.Duration
	switch {
	case d.passes():
		return passed(c, o, o.proof(c).path != "")
	case remote.IsOutage(err):
		most = g.OutageGrantDuration
	case remote.Is(err, remote.RateLimited) && !c.isAnonymous():
		most = min(limitedGrants*g.GrantDuration, g.OutageGrantDuration)
	}
	if held && g.extend(c, o, most) {
		return passed(c, o, false)
	}
	return result{decision: d, cause: err}
}

// extend lets the grant of a client for a repository last a little longer, but not longer than a time after its proof.
// It returns false if that has passed.
func (g *Gate) extend(c client, o object, most time.Duration) bool {
	m, now := g.memory(c), g.Now()
	until, end := now.Add(min(extension, g.GrantDuration)), m.grant(o.whole(c)).proven.Add(most)
	if until.After(end) {
		until = end
	}
	return now.Before(until) && m.extend(o.whole(c), until)
}
