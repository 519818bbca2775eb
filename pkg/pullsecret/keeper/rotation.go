// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/pullsecret"
)

const (
	// propagation is the time until all replicas of a cache have a changed Secret. A kubelet updates mounted Secrets
	// within a minute and a half. One that cannot reach the API server does not, but its node is not ready after less than
	// that, so that no client is sent to its replica.
	propagation = 3 * time.Minute
	// acceptance is how long a previous password is accepted after all namespaces have the new one: pods that mount the
	// Secret get it later.
	acceptance = time.Hour
	// revocation is how long a previous password is accepted that a removed namespace knows. It is enough for pods that
	// mount the Secret in the other namespaces, and does not depend on whether each of those can be written.
	revocation = 5 * time.Minute
	// maxPrevious bounds the previous passwords. A rotation period is longer than acceptance, so one expires before the
	// rotation after the next; only namespaces that are removed one after another shorten the life of more.
	maxPrevious = 2
	// passwordSize is the size of a password in bytes. So much entropy needs no salt in hashes.
	passwordSize = 32
)

// passwords are the passwords of an account. A new one is first given to the servers, then to clients, and only then do
// the previous ones expire.
type passwords struct {
	// Current is what clients have. It is nil until the servers have the first one.
	Current *password `json:"current,omitempty"`
	// Next is what the servers get before clients.
	Next *password `json:"next,omitempty"`
	// Previous are those that clients had, the latest first. One without an end gets it when all namespaces have Current,
	// or with the next rotation: a namespace that cannot be written does not keep a password alive.
	Previous []config.PasswordHash `json:"previous,omitempty"`
	// Namespaces are those that may know Current.
	Namespaces []string `json:"namespaces,omitempty"`
}

type password struct {
	Text string `json:"text"`
	// Since is when the password became Current or Next.
	Since time.Time `json:"since"`
}

// String hides the password.
func (password) String() string { return "[password]" }

// GoString is [password.String].
func (p password) GoString() string { return p.String() }

// advance returns the passwords of an account after the step that is due, if any. Delivered reports whether all its
// namespaces have Current.
func (p passwords) advance(now time.Time, account pullsecret.Account, delivered bool) passwords {
	p.Previous = slices.DeleteFunc(slices.Clone(p.Previous), func(hash config.PasswordHash) bool {
		return hash.NotAfter != nil && now.After(*hash.NotAfter)
	})
	switch {
	case p.Next != nil && !now.Before(p.Next.Since.Add(propagation)):
		return p.promote(now, account.Namespaces)
	case p.Next == nil && p.isDue(now, account):
		// The servers may not have it before propagation has passed.
		p.Next = &password{Text: generate(), Since: now}
	}
	if delivered {
		p.Previous = expire(p.Previous, now.Add(acceptance))
	}
	if p.Current != nil {
		p.Namespaces = union(p.Namespaces, account.Namespaces)
	}
	return p
}

// promote makes Next the current password.
func (p passwords) promote(now time.Time, namespaces []string) passwords {
	p.Previous = expire(p.Previous, now.Add(acceptance))
	if p.Current != nil {
		p.Previous = slices.Insert(p.Previous, 0, config.HashPassword(p.Current.Text, nil))
	}
	if !containsAll(namespaces, p.Namespaces) {
		end := now.Add(revocation)
		p.Previous = limit(expire(p.Previous, end), end)
	}
	p.Previous = p.Previous[:min(len(p.Previous), maxPrevious)]
	p.Current, p.Next = &password{Text: p.Next.Text, Since: now}, nil
	p.Namespaces = union(nil, namespaces)
	return p
}

// isDue reports whether a new password is due. It is after the rotation period, or if a namespace knows the current one
// that must not any more.
func (p passwords) isDue(now time.Time, account pullsecret.Account) bool {
	period := max(account.RotationPeriod.Duration, acceptance) // See maxPrevious.
	return p.Current == nil || !now.Before(p.Current.Since.Add(period)) || !containsAll(account.Namespaces, p.Namespaces)
}

// expire gives passwords without an end the given one.
func expire(hashes []config.PasswordHash, end time.Time) []config.PasswordHash {
	hashes = slices.Clone(hashes)
	for i := range hashes {
		if hashes[i].NotAfter == nil {
			hashes[i].NotAfter = new(end.UTC())
		}
	}
	return hashes
}

// limit makes passwords with a later end have the given one.
func limit(hashes []config.PasswordHash, end time.Time) []config.PasswordHash {
	hashes = slices.Clone(hashes)
	for i := range hashes {
		if hashes[i].NotAfter != nil && hashes[i].NotAfter.After(end) {
			hashes[i].NotAfter = new(end.UTC())
		}
	}
	return hashes
}

// accepted returns the hashes of what servers accept.
func (p passwords) accepted() []config.PasswordHash {
	var hashes []config.PasswordHash
	for _, password := range []*password{p.Current, p.Next} {
		if password != nil {
			hashes = append(hashes, config.HashPassword(password.Text, nil))
		}
	}
	return append(hashes, p.Previous...)
}

// generate returns a new password.
func generate() string {
	random := make([]byte, passwordSize)
	_, _ = rand.Read(random) // It never fails.
	return base64.RawURLEncoding.EncodeToString(random)
}

// ledger has the passwords of a cache's accounts by their names.
type ledger map[string]passwords

// advance returns the ledger after the steps that are due. Accounts that are not among the given ones are dropped.
func (l ledger) advance(now time.Time, accounts []pullsecret.Account, delivered func(pullsecret.Account) bool) ledger {
	next := make(ledger, len(accounts))
	for _, account := range accounts {
		next[account.Name] = l[account.Name].advance(now, account, delivered(account))
	}
	return next
}

// stateKey is the key of the ledger in the Secret with a cache's accounts. Servers do not see it.
const stateKey = "state.json"

// encode returns the content of the Secret with a cache's accounts: what servers accept, and the ledger.
func (l ledger) encode(accounts []pullsecret.Account) (map[string][]byte, error) {
	var accepted config.Accounts
	for _, account := range accounts {
		accepted.Accounts = append(accepted.Accounts, account.Accepted(l[account.Name].accepted()))
	}
	file, err := accepted.Marshal()
	if err != nil {
		return nil, err
	}
	state, err := json.Marshal(l)
	if err != nil {
		return nil, errors.New("encode passwords of accounts") // The error may quote them.
	}
	return map[string][]byte{pullsecret.AccountsKey: file, stateKey: state}, nil
}

// decodeLedger returns the ledger in the content of a Secret. An owner can change it: what is not usable is dropped,
// and accounts get new passwords instead.
func decodeLedger(data map[string][]byte, now time.Time) ledger {
	var l ledger
	if json.Unmarshal(data[stateKey], &l) != nil {
		return ledger{}
	}
	for name, stored := range l {
		l[name] = stored.usable(now)
	}
	return l
}

var (
	// generated matches what generate returns.
	generated = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
	// hashed matches the hashes of [config.HashPassword].
	hashed = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// usable returns the passwords without what the controller cannot have stored, so that servers accept the rest, and all
// of it is rotated and expires in time. Times in the future may also come from another clock.
func (p passwords) usable(now time.Time) passwords {
	p.Current, p.Next = usablePassword(p.Current, now), usablePassword(p.Next, now)
	p.Previous = slices.DeleteFunc(p.Previous, func(hash config.PasswordHash) bool { return !hashed.MatchString(hash.SHA256) })
	p.Previous = limit(p.Previous[:min(len(p.Previous), maxPrevious)], now.Add(acceptance))
	return p
}

func usablePassword(p *password, now time.Time) *password {
	switch {
	case p == nil || !generated.MatchString(p.Text):
		return nil
	case p.Since.After(now):
		return &password{Text: p.Text, Since: now}
	}
	return p
}

func containsAll(all, some []string) bool {
	return !slices.ContainsFunc(some, func(name string) bool { return !slices.Contains(all, name) })
}

func union(a, b []string) []string {
	all := append(slices.Clone(a), b...)
	slices.Sort(all)
	return slices.Compact(all)
}
