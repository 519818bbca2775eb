// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	// AccountPrefix is the prefix of the user names of accounts. The server never sends the password of such a user to
	// the upstream.
	AccountPrefix = "larder."
	// AllRepositories stands for all repositories in those of an account.
	AllRepositories = "*"
)

// Accounts is the file with the accounts of a cache for clients in the cluster. The server reads it again when it
// changes. It has hashes instead of passwords, which need no salt: passwords are random and have 256 bits.
type Accounts struct {
	Accounts []Account `json:"accounts"`
}

// Account is one of the accounts.
type Account struct {
	// Name is the user name without AccountPrefix.
	Name string `json:"name"`
	// Repositories are prefixes of the repositories that the account may read, by path segments, or AllRepositories.
	Repositories []string `json:"repositories"`
	// Passwords are those that are accepted: the current one, and for a while the one before.
	Passwords []PasswordHash `json:"passwords"`
}

// PasswordHash is the hash of a password.
type PasswordHash struct {
	// SHA256 is in hexadecimal.
	SHA256 string `json:"sha256"`
	// NotAfter is when the password is no longer accepted; nil is never.
	NotAfter *time.Time `json:"notAfter,omitempty"`
}

// HashPassword returns the hash of a password that is accepted until notAfter, or forever if that is nil.
func HashPassword(password string, notAfter *time.Time) PasswordHash {
	sum := sha256.Sum256([]byte(password))
	return PasswordHash{SHA256: hex.EncodeToString(sum[:]), NotAfter: notAfter}
}

// Username returns the user name of the account.
func (a Account) Username() string { return AccountPrefix + a.Name }

// Marshal renders the file.
func (a Accounts) Marshal() ([]byte, error) {
	if err := a.validate(); err != nil {
		return nil, err
	}
	return json.Marshal(a)
}

// ParseAccounts parses the file. Errors contain no hash.
func ParseAccounts(content []byte) (Accounts, error) {
	var a Accounts
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&a); err != nil {
		return Accounts{}, errors.New("not a valid list of accounts")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Accounts{}, errors.New("more than one list of accounts")
	}
	return a, a.validate()
}

// validate returns the first problem. It quotes no hash.
func (a Accounts) validate() error {
	if len(a.Accounts) > MaxAccounts {
		return fmt.Errorf("more than %d accounts", MaxAccounts)
	}
	seen := map[string]bool{}
	for i, account := range a.Accounts {
		if err := checkAccountName(account.Name); err != nil {
			return fmt.Errorf("accounts[%d].name %w", i, err)
		}
		if seen[account.Name] {
			return fmt.Errorf("account %s is listed twice", account.Name)
		}
		seen[account.Name] = true
		if err := account.validate(); err != nil {
			return fmt.Errorf("account %s: %w", account.Name, err)
		}
	}
	return nil
}

func (a Account) validate() error {
	switch {
	case len(a.Repositories) == 0:
		return fmt.Errorf("no repositories; %q stands for all", AllRepositories)
	case len(a.Repositories) > MaxAccountRepositories:
		return fmt.Errorf("more than %d repositories", MaxAccountRepositories)
	case len(a.Passwords) == 0:
		return errors.New("no password")
	case len(a.Passwords) > MaxAccountPasswords:
		return fmt.Errorf("more than %d passwords", MaxAccountPasswords)
	}
	for _, repository := range a.Repositories {
		if err := checkAccountRepository(repository); err != nil {
			return fmt.Errorf("repository %w", err)
		}
	}
	for i, password := range a.Passwords {
		if sum, err := hex.DecodeString(password.SHA256); err != nil || len(sum) != sha256.Size {
			return fmt.Errorf("passwords[%d].sha256 is not a SHA-256 in hexadecimal", i)
		}
	}
	return nil
}
