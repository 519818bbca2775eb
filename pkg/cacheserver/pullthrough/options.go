// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/keyring"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/credentials"
)

// Options are the settings of an engine; zero means zero, see Defaults. Their names in a configuration file, and what each
// of them does, are in docs/cache-server.md.
type Options struct {
	// RemoteURL is the upstream, http(s)://host[:port].
	RemoteURL string
	// RootDirectory is that of Distribution's filesystem driver.
	RootDirectory string
	// TTL is how long content is kept after its last use; 0 is for ever.
	TTL time.Duration

	// CredentialsDirectory holds credentials, see package keyring. It comes before all others.
	CredentialsDirectory string
	// ConfigurationFile is read for the credential of its proxy section again whenever it changes.
	ConfigurationFile string
	// Credential is used if there is no file to read it from.
	Credential credentials.Credential
	// Command is a docker credential helper, whose answer is used for CommandLifetime (nil: for ever).
	Command         string
	CommandLifetime *time.Duration

	// CABundle is a file with further certificates to trust.
	CABundle string
	// AllowedRealms are hosts of token services on other domains than the upstream's.
	AllowedRealms []string
	// Timeouts of requests to the upstream.
	Timeouts remote.Timeouts
	// UserAgent names the cache to the upstream.
	UserAgent string

	// Freshness is how long a tag is served without asking the upstream again; 0 asks each time.
	Freshness time.Duration
	// ValidationTimeout is how long a client that could be served from the cache waits for the upstream's word on a tag,
	// SuspectTimeout how long if that takes much longer than it did lately. The smaller one counts then.
	ValidationTimeout, SuspectTimeout time.Duration
	// ClientTimeout is how long a client may take for the next 4 MiB.
	ClientTimeout time.Duration
	// GracePeriod is how long a fetch goes on when nobody waits for it, unless half of it is done.
	GracePeriod time.Duration
	// Retries is how often in a row a fetch is resumed without much progress.
	Retries int
	// MaxFetches is how many blobs are fetched at a time.
	MaxFetches int

	// HighWatermark is the used part of the volume, 0 to 1, above which content is evicted down to LowWatermark.
	HighWatermark, LowWatermark float64
	// ScrubInterval is how often content on disk is compared with its digest, at ScrubRate bytes a second; an interval
	// of 0 is never, a rate of 0 is no limit.
	ScrubInterval time.Duration
	ScrubRate     int64

	// What follows is replaced in tests; nil is the real one.
	Log      logrus.FieldLogger
	Metrics  *metrics.Metrics
	Now      func() time.Time
	Disk     store.Disk
	Upstream remote.Registry
}

// DefaultTTL is Distribution's for its proxy.
const DefaultTTL = 7 * 24 * time.Hour

// maxUnstored is how many fetches may go through memory at a time.
const maxUnstored = 16

// Defaults are the options of an engine that is only told where its upstream and its directory are.
func Defaults() Options {
	return Options{
		TTL:               DefaultTTL,
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

func (o Options) validate() error {
	for name, d := range map[string]time.Duration{
		"ttl": o.TTL, "freshness": o.Freshness, "validationtimeout": o.ValidationTimeout, "doubtfultimeout": o.SuspectTimeout, "graceperiod": o.GracePeriod,
		"scrub.interval": o.ScrubInterval,
	} {
		if d < 0 {
			return fmt.Errorf("%s must not be negative", name)
		}
	}
	for name, d := range map[string]time.Duration{
		"timeouts.connect": o.Timeouts.Connect, "timeouts.firstbyte": o.Timeouts.FirstByte, "timeouts.idle": o.Timeouts.Idle,
		"timeouts.client": o.ClientTimeout,
	} {
		if d <= 0 {
			return fmt.Errorf("%s must be positive", name)
		}
	}
	switch {
	case o.RemoteURL == "":
		return errors.New("remoteurl is missing")
	case o.RootDirectory == "":
		return errors.New("the root directory is missing; the engine needs the filesystem storage driver")
	case o.HighWatermark <= 0 || o.HighWatermark > 1 || o.LowWatermark < 0 || o.LowWatermark > o.HighWatermark:
		return errors.New("watermarks must be percentages, the high one above 0 and the low one not above the high one")
	case o.MaxFetches < 1:
		return errors.New("maxfetches must be at least 1")
	case o.Retries < 0 || o.ScrubRate < 0 || o.Timeouts.MinRate < 0:
		return errors.New("retries, scrub.rate and timeouts.minrate must not be negative")
	}
	return nil
}

// credentials returns where credentials come from, which may have others to follow them at any time.
func (o Options) credentials(host string) keyring.Source {
	switch {
	case o.CredentialsDirectory != "":
		return keyring.Directory(o.CredentialsDirectory, host)
	case o.ConfigurationFile != "":
		return keyring.ConfigFile(o.ConfigurationFile)
	}
	return keyring.Static(o.Credential)
}
