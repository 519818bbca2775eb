// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"
	"time"

	cacheconfig "github.com/larder-project/larder/pkg/cacheserver/config"
)

// accounts are the accounts of the cache by user name.
type accounts map[string]account

type account struct {
	// all means all repositories, prefixes are those of the others, by path segments.
	all       bool
	prefixes  []string
	passwords []password
}

// password is the hash of a password. A hash without salt suffices: passwords are random and have 256 bits.
type password struct {
	sum     [sha256.Size]byte
	expires time.Time // zero for never
}

func parseAccounts(content []byte) (accounts, error) {
	parsed, err := cacheconfig.ParseAccounts(content)
	if err != nil {
		return nil, err
	}
	all := make(accounts, len(parsed.Accounts))
	for _, described := range parsed.Accounts {
		var a account
		for _, repository := range described.Repositories {
			if repository == cacheconfig.AllRepositories {
				a.all = true
			} else {
				a.prefixes = append(a.prefixes, repository)
			}
		}
		for _, p := range described.Passwords {
			var hash password
			_, _ = hex.Decode(hash.sum[:], []byte(p.SHA256)) // ParseAccounts has validated it.
			if p.NotAfter != nil {
				hash.expires = *p.NotAfter
			}
			a.passwords = append(a.passwords, hash)
		}
		all[described.Username()] = a
	}
	return all, nil
}

// accepts reports whether a password is one of the account. It takes the same time for each wrong one.
func (a account) accepts(given string, now time.Time) bool {
	sum := sha256.Sum256([]byte(given))
	accepted := 0
	for _, p := range a.passwords {
		equal := subtle.ConstantTimeCompare(sum[:], p.sum[:])
		if p.expires.IsZero() || now.Before(p.expires) {
			accepted |= equal
		}
	}
	return accepted == 1
}

// mayRead reports whether the account may read a repository.
func (a account) mayRead(repository string) bool {
	if a.all {
		return true
	}
	for _, prefix := range a.prefixes {
		if rest, ok := strings.CutPrefix(repository, prefix); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

// isAccount reports whether a user name is that of an account of the cache, known or not. Such a credential is never
// sent to the upstream.
func isAccount(username string) bool { return strings.HasPrefix(username, cacheconfig.AccountPrefix) }
