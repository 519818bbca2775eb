// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/distribution/reference"
)

// These are the limits and defaults of the server for Access and Accounts.
const (
	DefaultGrantDuration       = 5 * time.Minute
	MinGrantDuration           = time.Second
	MaxGrantDuration           = time.Hour
	DefaultOutageGrantDuration = 24 * time.Hour
	MaxOutageGrantDuration     = 24 * time.Hour

	MaxAccounts            = 64
	MaxAccountRepositories = 64
	MaxAccountPasswords    = 4

	// MinDebugToken is the least length of a token in DebugTokenFile.
	MinDebugToken = 16
)

// Access restricts who may read what from a server, which has to serve TLS. Paths are those of files as the server sees
// them, whose changes it follows.
type Access struct {
	// Mode is AccessPullSecrets, AccessNodes or AccessCluster.
	Mode string `yaml:"mode"`
	// GrantDuration is how long the server does not ask the upstream again whether a client may pull, and
	// OutageGrantDuration how long while the upstream is unavailable. Nil selects the server's defaults.
	GrantDuration       *time.Duration `yaml:"grantduration,omitempty"`
	OutageGrantDuration *time.Duration `yaml:"outagegrantduration,omitempty"`
	// ClientCAFile has the authorities of the certificates of nodes.
	ClientCAFile string `yaml:"clientcafile,omitempty"`
	// AccountsFile has Accounts. Empty means that there are none.
	AccountsFile string `yaml:"accountsfile,omitempty"`
	// DebugTokenFile has the token for what DebugPort serves besides health and metrics. Empty means that it serves
	// nothing else.
	DebugTokenFile string `yaml:"debugtokenfile,omitempty"`
}

const (
	// AccessCluster lets every client read everything.
	AccessCluster = "Cluster"
	// AccessPullSecrets lets clients read what the upstream lets them read with the credentials that they present.
	AccessPullSecrets = "PullSecrets"
	// AccessNodes lets clients with a certificate of the authorities in ClientCAFile read everything.
	AccessNodes = "Nodes"
	// DebugTokenHeader carries the token of DebugTokenFile. The proxy of an API server removes Authorization, in which
	// the token may be a password as well.
	DebugTokenHeader = "X-Larder-Debug"
)

// Problems returns everything that is wrong with the settings, by the names that options have in a configuration file.
func (a Access) Problems() []error {
	isRestricted := a.Mode == AccessPullSecrets || a.Mode == AccessNodes
	var errs []error
	for _, rule := range []struct {
		ok      bool
		problem string
	}{
		{isRestricted || a.Mode == AccessCluster, "access.mode must be Cluster, PullSecrets or Nodes"},
		{isBetween(a.GrantDuration, MinGrantDuration, MaxGrantDuration), "access.grantduration must be from 1s to 1h"},
		{isBetween(a.OutageGrantDuration, 0, MaxOutageGrantDuration), "access.outagegrantduration must be from 0s to 24h"},
		{(a.Mode == AccessNodes) == (a.ClientCAFile != ""), "access.clientcafile must be set for the mode Nodes, and only for that"},
		{isRestricted || a.AccountsFile == "", "access.accountsfile must be unset for the mode Cluster, in which every client may read everything"},
		{isRestricted || a.DebugTokenFile == "", "access.debugtokenfile must be unset for the mode Cluster"},
	} {
		if !rule.ok {
			errs = append(errs, errors.New(rule.problem))
		}
	}
	return errs
}

func isBetween(duration *time.Duration, shortest, longest time.Duration) bool {
	return duration == nil || *duration >= shortest && *duration <= longest
}

// accountNames matches names that fit into the name of a Secret and do not contain the colon that separates user name
// and password.
var accountNames = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// checkAccountName returns an error unless an account can have the name.
func checkAccountName(name string) error {
	if !accountNames.MatchString(name) {
		return errors.New("must be a DNS label")
	}
	return nil
}

// checkAccountRepository returns an error unless an account can be limited to the repository.
func checkAccountRepository(repository string) error {
	if _, err := reference.WithName(repository); err != nil && repository != AllRepositories {
		return fmt.Errorf("%q is neither the name of a repository nor %q", repository, AllRepositories)
	}
	return nil
}
