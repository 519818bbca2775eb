// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	cacheconfig "github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/route"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/limit"
)

// Mode is who may read what.
type Mode string

// The modes; see the package.
const (
	Cluster     Mode = cacheconfig.AccessCluster
	PullSecrets Mode = cacheconfig.AccessPullSecrets
	Nodes       Mode = cacheconfig.AccessNodes
)

// Options are the settings of a Gate.
type Options struct {
	Mode Mode
	// GrantDuration is how long the upstream is not asked again, in the mode PullSecrets. OutageGrantDuration is how
	// long it need not be asked while it is unavailable.
	GrantDuration, OutageGrantDuration time.Duration
	// ClientCAFile has the certificates of the authorities of clients, in the mode Nodes.
	ClientCAFile string
	// AccountsFile has the accounts of the cache; may be empty. See config.Accounts.
	AccountsFile string
	// DebugTokenFile has what a client presents to see more than health and metrics; without it, none does.
	DebugTokenFile string
}

// Defaults are the settings of a cache that any client may read.
var Defaults = Options{Mode: Cluster, GrantDuration: cacheconfig.DefaultGrantDuration, OutageGrantDuration: cacheconfig.DefaultOutageGrantDuration}

// Problems returns everything that is wrong with the settings, by the names that options have in a configuration file.
func (o Options) Problems() []error {
	return cacheconfig.Access{
		Mode: string(o.Mode), GrantDuration: &o.GrantDuration, OutageGrantDuration: &o.OutageGrantDuration,
		ClientCAFile: o.ClientCAFile, AccountsFile: o.AccountsFile, DebugTokenFile: o.DebugTokenFile,
	}.Problems()
}

// Upstream is the registry that decides in the mode PullSecrets. A remote.Client is one.
type Upstream interface {
	// Authorize returns nil if the upstream serves an object of a repository to a credential; the zero value means to
	// anyone. The permission is as old as asOf, which is at most maxAge ago.
	Authorize(ctx context.Context, repository, path string, c credentials.Credential, maxAge time.Duration) (asOf time.Time, err error)
	// AuthorizeOwn is Authorize for the credential of the cache, whatever other credentials could make such a request.
	AuthorizeOwn(ctx context.Context, repository, path string) (asOf time.Time, err error)
}

// Health is how the upstream responds.
type Health interface {
	// Down reports whether a client with an earlier grant should not wait for the upstream. It occasionally calls
	// probe; then a request in the background must follow.
	Down(probe func()) bool
	// Healthy reports whether the upstream does not count as down.
	Healthy() bool
}

// Dependencies are what a Gate depends on.
type Dependencies struct {
	// Upstream, Health, Guests and Owns are needed for the mode PullSecrets only.
	Upstream Upstream
	Health   Health
	Guests   *Guests
	// Owns reports whether a manifest or blob, by the kind of its route, is known to be part of a repository.
	Owns func(kind, repository string, d digest.Digest) bool
	// Observe is called with the result of each request for content.
	Observe func(result string)
	// MaxWait is how long a request waits for its turn to ask the upstream.
	MaxWait time.Duration
	Log     logrus.FieldLogger
	Now     func() time.Time
}

const (
	// maxAsking is how many questions the upstream is asked at a time for clients without a credential, and for those
	// with one that may be a guess. Neither can hold up the other, or those with a credential that it has accepted.
	maxAsking = 16
	// maxAskingFirst is how many questions without a credential it is asked at a time for clients that have one. These
	// do not wait, so there are more.
	maxAskingFirst = 64
	// maxAskingKnown is how many questions with an accepted credential it is asked at a time, and maxShare how many of
	// them for one client, so that one cannot hold up the others: all nodes of a cluster may have the same pull secret,
	// so one client may have many. The accounts of the cache are one client.
	maxAskingKnown, maxShare = 48, 16
	// sweepInterval is how often what no longer counts is dropped.
	sweepInterval = time.Minute
)

// Gate decides which requests pass. A nil Gate lets all of them pass.
type Gate struct {
	Options
	Dependencies

	// secret is the key of identities.
	secret [32]byte
	// anonymous has what any client was granted or refused, clients what those with a credential were.
	anonymous, clients *memory
	guesses            *guesses
	asking             *coalesce.Group[question, decision]
	// Questions of clients without a credential, of those with one before that is asked with, and with an unknown and a
	// known credential.
	public, first, unknown, known limit.Limit
	// shares has the part of the known that each client may use.
	shares *limit.Shares[identity]

	nodes      *nodes // nil unless the mode is Nodes
	accounts   *file[accounts]
	debugToken *file[[]byte]
}

// New returns a Gate, or nil for the mode Cluster. It reads the files.
func New(o Options, d Dependencies) (*Gate, error) {
	if o.Mode == Cluster {
		return nil, nil
	}
	g := &Gate{
		Options: o, Dependencies: d,
		anonymous: newMemory(), clients: newMemory(), guesses: newGuesses(), asking: coalesce.New[question, decision](),
		public: limit.New(maxAsking), first: limit.New(maxAskingFirst), unknown: limit.New(maxAsking), known: limit.New(maxAskingKnown),
		shares: limit.NewShares[identity](maxShare),
	}
	if _, err := rand.Read(g.secret[:]); err != nil {
		return nil, fmt.Errorf("create the key for hashes of credentials: %w", err)
	}
	if g.Guests != nil {
		// The client of the upstream needs Guests before there is a Gate, so the two are connected here.
		g.Guests.now = g.Now
		g.Guests.rejected = g.revoke
	}
	return g, g.readFiles()
}

func (g *Gate) readFiles() error {
	var err error
	if g.ClientCAFile != "" {
		var authorities *file[*x509.CertPool]
		if authorities, err = open(g.ClientCAFile, g.Log, parseBundle); err != nil {
			return fmt.Errorf("access.clientcafile: %w", err)
		}
		g.nodes = newNodes(authorities)
	}
	if g.AccountsFile != "" {
		// Passwords are generated while the server starts. Until they are there, no account is accepted.
		if g.accounts, err = openOptional(g.AccountsFile, g.Log, parseAccounts); err != nil {
			return fmt.Errorf("access.accountsfile: %w", err)
		}
	}
	if g.DebugTokenFile != "" {
		if g.debugToken, err = open(g.DebugTokenFile, g.Log, parseToken); err != nil {
			return fmt.Errorf("access.debugtokenfile: %w", err)
		}
	}
	return nil
}

// Run drops what no longer counts, credentials above all, until ctx ends.
func (g *Gate) Run(ctx context.Context) {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			g.sweep()
		}
	}
}

func (g *Gate) sweep() {
	now := g.Now()
	g.anonymous.expire(now, g.OutageGrantDuration)
	g.clients.expire(now, g.OutageGrantDuration)
	g.guesses.expire(now)
	if g.Guests != nil {
		g.Guests.expire(now)
	}
}

// Close ends the requests to the upstream.
func (g *Gate) Close() {
	if g != nil {
		g.asking.Close()
	}
}

// RequestsCertificates reports whether clients identify themselves by certificates. The server has to ask for these,
// but must not verify them.
func (g *Gate) RequestsCertificates() bool { return g != nil && g.nodes != nil }

// decide decides about a request, whose credential is given.
func (g *Gate) decide(r *http.Request, to route.Route, given credentials.Credential) result {
	own, fromAccount := account{}, isAccount(given.Username)
	if fromAccount {
		var accepted bool
		if own, accepted = g.account(given); !accepted {
			return withoutAccess(to, given)
		}
	}
	if g.Mode == Nodes {
		return g.decideForNodes(r, to, given, own)
	}
	o, ok := objectOf(to)
	source := sourceOf(r.RemoteAddr)
	switch {
	case to.Kind == route.Base && given == credentials.Credential{}:
		return withoutAccess(to, given)
	case to.Kind == route.Base:
		// A pull secret can only be checked against a repository, so any is accepted here; it opens nothing yet.
		return result{decision: byGrant}
	case to.Kind == route.Catalog:
		return result{decision: denied}
	case !ok || !o.isValid():
		return result{decision: unsupported}
	case own.mayRead(to.Repository):
		return g.decidePullSecret(r.Context(), o, g.cache(source), source)
	case fromAccount:
		return g.decideOtherAccount(r.Context(), o, client{source: source})
	case given == credentials.Credential{}:
		return g.decideAnyone(r.Context(), o, client{source: source, mayReturn: true})
	}
	return g.decidePullSecret(r.Context(), o, g.client(given, source), source)
}

// decideForNodes decides in the mode Nodes: nodes read everything, accounts their repositories. A credential of an
// account is that of own.
func (g *Gate) decideForNodes(r *http.Request, to route.Route, given credentials.Credential, own account) result {
	by := byAccount
	switch {
	case g.nodes != nil && g.nodes.admits(r.TLS, g.Now()):
		by = byNode
	case !isAccount(given.Username):
		return withoutAccess(to, given)
	}
	switch _, ok := objectOf(to); {
	case to.Kind == route.Base:
		return result{decision: by}
	case to.Kind == route.Catalog:
		return result{decision: denied}
	case !ok:
		return result{decision: unsupported}
	case by == byAccount && !own.mayRead(to.Repository):
		return result{decision: denied}
	}
	return result{pass: pass{repository: to.Repository}, decision: by}
}

// withoutAccess is the result for a client without a credential, or with a wrong one.
func withoutAccess(to route.Route, given credentials.Credential) result {
	if given == (credentials.Credential{}) || to.Kind == route.Base {
		return result{decision: challenged}
	}
	return result{decision: denied}
}

// account returns the account with a user name, if the password is right.
func (g *Gate) account(given credentials.Credential) (account, bool) {
	if g.accounts == nil {
		return account{}, false
	}
	found, ok := g.accounts.get()[given.Username]
	return found, ok && found.accepts(given.Password, g.Now())
}

// decideAnyone decides for a client without a credential. Container runtimes present a pull secret only after a
// challenge, so nothing else may follow unless the object is known to be public: the client may have a grant.
func (g *Gate) decideAnyone(ctx context.Context, o object, anyone client) result {
	if found := g.check(ctx, anyone, o); found.decision.passes() {
		return found
	}
	return result{decision: challenged}
}

// decideOtherAccount decides for an account that may not read the repository: it reads what is public.
func (g *Gate) decideOtherAccount(ctx context.Context, o object, anyone client) result {
	found := g.check(ctx, anyone, o)
	switch found.decision {
	case missing, limited:
		return result{decision: denied}
	}
	return found
}

// decidePullSecret decides for a client with a pull secret, or an account. The upstream gets that only for what is not
// known to be public: some upstreams refuse even public content to a credential that has expired.
func (g *Gate) decidePullSecret(ctx context.Context, o object, c client, source netip.Addr) result {
	past, anyone := g.look(c, o), client{source: source, hasOther: true}
	if past.known && past.found.decision.passes() {
		return past.found
	}
	if past.held {
		found := g.check(ctx, c, o)
		if found.decision != denied && found.decision != missing {
			return found
		}
		if public := g.check(ctx, anyone, o); public.decision.passes() {
			return public // The repository has become public.
		}
		return found
	}
	public := g.check(ctx, anyone, o)
	// A limit or an unexpected response says nothing about the credential, so ask with it. An upstream that did not
	// respond at all would not respond to the credential.
	isSilent := remote.IsOutage(public.cause) && remote.StatusOf(public.cause) == 0
	if public.decision.passes() || isSilent {
		return public
	}
	return g.check(ctx, c, o)
}
