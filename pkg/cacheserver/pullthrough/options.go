// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/access"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/connection"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/keyring"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/credentials"
)

// Options configure an engine. A zero value means zero, not the default; see Defaults. docs/cache-server.md lists their
// names in a configuration file.
type Options struct {
	// RemoteURL is the upstream, http(s)://host[:port].
	RemoteURL string
	// RootDirectory is the root directory of Distribution's filesystem driver.
	RootDirectory string
	// TTL is how long content is kept after its last use; 0 keeps it forever.
	TTL time.Duration

	// CredentialsDirectory holds credentials, see package keyring. It takes precedence over all other sources.
	CredentialsDirectory string
	// RepositoryCredentials are credentials for some repositories. The sources above and below are for all others.
	RepositoryCredentials []RepositoryCredential
	// ConfigurationFile is read again for the credential of its proxy section whenever it changes.
	ConfigurationFile string
	// Credential is used if there is no file to read one from.
	Credential credentials.Credential
	// Command is a Docker credential helper. Its credential is used for CommandLifetime; nil means forever.
	Command         string
	CommandLifetime *time.Duration

	// Access is who may read what.
	Access access.Options
	// Connection has the files with trusted certificates, the client certificate and the credential for proxies. The
	// server follows their changes.
	Connection connection.Files
	// AllowedRealms are hosts of token services outside the upstream's domain.
	AllowedRealms []string
	// Timeouts apply to requests to the upstream.
	Timeouts remote.Timeouts
	// UserAgent identifies the cache to the upstream.
	UserAgent string

	// Freshness is how long a tag is served without validation; 0 validates it for each pull.
	Freshness time.Duration
	// ValidationTimeout is the longest time that a pull of a cached tag waits for its validation. SuspectTimeout
	// replaces it, if it is shorter, while the upstream is suspect: after a failure, or when it is much slower than
	// usual.
	ValidationTimeout, SuspectTimeout time.Duration
	// ClientTimeout is how long a client may take for the next 4 MiB.
	ClientTimeout time.Duration
	// GracePeriod is how long a fetch continues without readers. A fetch that is at least half done always finishes.
	GracePeriod time.Duration
	// Retries is how often in a row a fetch is resumed without much progress.
	Retries int
	// MaxFetches limits the number of concurrent fetches of blobs.
	MaxFetches int

	// HighWatermark is the used fraction of the volume above which content is evicted, down to LowWatermark.
	HighWatermark, LowWatermark float64
	// ScrubInterval is how often stored content is compared with its digest, at ScrubRate bytes per second. An interval
	// of 0 disables scrubbing, a rate of 0 does not limit it.
	ScrubInterval time.Duration
	ScrubRate     int64

	// LogEvent logs the events of requests for content of an upstream; nil logs them to Log.
	LogEvent func(upstream string, e event.Event)

	// Tests replace the following; nil selects the real implementation.
	Log      logrus.FieldLogger
	Metrics  *metrics.Metrics
	Now      func() time.Time
	Disk     store.Disk
	Upstream remote.Registry
}

// RepositoryCredential describes the files of the credential for some repositories.
type RepositoryCredential struct {
	// Directory holds the files, whose names start with Prefix.
	Directory string `option:"directory"`
	Prefix    string `option:"prefix"`
	// Repositories are prefixes of repositories, by path segments.
	Repositories []string       `option:"repositories"`
	Unknown      map[string]any `option:",remain"`
}

// maxRepositoryCredentials bounds the credentials of one upstream, each of which is checked in the background.
const maxRepositoryCredentials = 64

const (
	// maxHang is how long the volume may hang before clients are sent to another source.
	maxHang = 2 * time.Second
	// patientMaxHang is the bound for a cache that serves what its clients cannot get elsewhere: a volume that is
	// merely slow must not fail their pulls.
	patientMaxHang = 10 * time.Second
)

// DefaultTTL is the default of Distribution's proxy.
const DefaultTTL = 7 * 24 * time.Hour

// Defaults returns the options of an engine except for its upstream and its root directory.
func Defaults() Options {
	return Options{
		TTL:               DefaultTTL,
		Access:            access.Defaults,
		Timeouts:          remote.DefaultTimeouts,
		UserAgent:         "larder-registry-cache",
		ValidationTimeout: 5 * time.Second,
		SuspectTimeout:    800 * time.Millisecond,
		ClientTimeout:     5 * time.Minute,
		GracePeriod:       10 * time.Second,
		Retries:           5,
		MaxFetches:        64,
		HighWatermark:     0.9,
		LowWatermark:      0.8,
		ScrubInterval:     DefaultTTL,
		ScrubRate:         16 << 20,
	}
}

// maxHang returns how long the volume may hang. Nodes decide by the same rule how long they wait for a connection: see
// podsNeedCredential in pkg/webhook/osc.
func (o Options) maxHang() time.Duration {
	hasCredential := o.CredentialsDirectory != "" || len(o.RepositoryCredentials) > 0 || o.Command != "" || o.Credential != (credentials.Credential{})
	if hasCredential && o.Access.Mode != access.PullSecrets {
		return patientMaxHang
	}
	return maxHang
}

// validate returns the first error of problems.
func (o Options) validate() error {
	for _, err := range o.problems() {
		return err
	}
	return nil
}

// problems returns everything that is wrong with the values, by the names that options have in a configuration file.
func (o Options) problems() []error {
	const notNegative, positive = "must not be negative", "must be positive"
	var errs []error
	for _, rule := range []struct {
		name string
		ok   bool
		want string
	}{
		{"the remote URL", o.RemoteURL != "", "must be set"},
		{"the root directory", o.RootDirectory != "", "must be set"},
		{"the TTL", o.TTL >= 0, notNegative},
		{"freshness", o.Freshness >= 0, notNegative},
		{"validationtimeout", o.ValidationTimeout >= 0, notNegative},
		{"suspecttimeout", o.SuspectTimeout >= 0, notNegative},
		{"graceperiod", o.GracePeriod >= 0, notNegative},
		{"retries", o.Retries >= 0, notNegative},
		{"maxfetches", o.MaxFetches >= 1, "must be at least 1"},
		{"timeouts.connect", o.Timeouts.Connect > 0, positive},
		{"timeouts.firstbyte", o.Timeouts.FirstByte > 0, positive},
		{"timeouts.idle", o.Timeouts.Idle > 0, positive},
		{"clientcertificate", (o.Connection.ClientCertificate == "") == (o.Connection.ClientKey == ""), "must have both a certificate and a key"},
		{"forwardproxy", (o.Connection.ProxyUsername == "") == (o.Connection.ProxyPassword == ""), "must have both a usernamefile and a passwordfile"},
		{"timeouts.minrate", o.Timeouts.MinRate >= 0, notNegative},
		{"timeouts.client", o.ClientTimeout > 0, positive},
		{"watermarks.high", o.HighWatermark > 0 && o.HighWatermark <= 1, "must be a percentage above 0, at most 100"},
		{"watermarks.low", o.LowWatermark >= 0 && o.LowWatermark <= o.HighWatermark, "must be a percentage from 0 to watermarks.high"},
		{"scrub.interval", o.ScrubInterval >= 0, notNegative},
		{"scrub.rate", o.ScrubRate >= 0, notNegative},
		{"repositorycredentials", len(o.RepositoryCredentials) <= maxRepositoryCredentials, fmt.Sprintf("must have at most %d entries", maxRepositoryCredentials)},
		{"repositorycredentials", len(o.RepositoryCredentials) == 0 || o.Command == "", "must be unset with a credential helper"},
	} {
		if !rule.ok {
			errs = append(errs, fmt.Errorf("%s %s", rule.name, rule.want))
		}
	}
	return slices.Concat(errs, o.routeProblems(), o.Access.Problems())
}

// routeProblems returns what is wrong with the credentials for some repositories.
func (o Options) routeProblems() []error {
	var errs []error
	seen := map[string]bool{}
	for i, credential := range o.RepositoryCredentials {
		name := fmt.Sprintf("repositorycredentials[%d]", i)
		if credential.Directory == "" {
			errs = append(errs, fmt.Errorf("%s.directory must be set", name))
		}
		if len(credential.Repositories) == 0 {
			errs = append(errs, fmt.Errorf("%s.repositories must have at least one entry", name))
		}
		for _, repository := range credential.Repositories {
			if repository == "" || seen[repository] {
				errs = append(errs, fmt.Errorf("%s.repositories must have no empty and no duplicate entries", name))
			}
			seen[repository] = true
		}
		for option := range credential.Unknown {
			errs = append(errs, fmt.Errorf("%s.%s is not an option, correct its name or remove it", name, option))
		}
	}
	return errs
}

// credentials returns the source of credentials. A source can provide new ones at any time.
func (o Options) credentials(host string) keyring.Source {
	switch {
	case o.CredentialsDirectory != "":
		return keyring.Directory(o.CredentialsDirectory, "", host)
	case o.ConfigurationFile != "":
		return keyring.ConfigFile(o.ConfigurationFile)
	}
	return keyring.Static(o.Credential)
}
