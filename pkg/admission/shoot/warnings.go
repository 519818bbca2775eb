// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/admission/usage"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/upstream"
)

// maxWarningNames limits the number of names in a warning. API servers truncate or drop long warnings.
const maxWarningNames = 3

const (
	plainWarning = "cache %s: the credential is sent unencrypted, since remoteURL begins with http://; " +
		"use https:// if the registry supports it"
	sharedWarning = "cache %s: every pod in the cluster can pull what this credential can pull; " +
		"use one that is read-only and limited to what the whole cluster may see"
	rateLimitWarning = "cache %s: without a credential, Docker Hub applies one rate limit to all pulls from your IP address; " +
		"set secretReferenceName to use the limit of an account"
)

// warnings returns warnings about valid but risky settings. It covers only the changes of an update, so that no warning
// is repeated.
func (r *review) warnings() []string {
	var warnings []string
	warn := func(format string, names []string) {
		if len(names) > 0 {
			warnings = append(warnings, fmt.Sprintf(format, list(names)))
		}
	}
	if r.now == nil {
		return nil
	}
	warn(plainWarning, r.newly(sendsCredentialsInPlain))
	warn(sharedWarning, r.newlyPrivate())
	warn(rateLimitWarning, r.newly(isLimited))
	return warnings
}

// newlyPrivate returns the upstreams of the caches that get a credential and had none before. A rotation does not
// count.
func (r *review) newlyPrivate() []string {
	before := sets.New[string]()
	if r.before != nil {
		before = upstreamsOf(r.before.References)
	}
	return sets.List(upstreamsOf(r.now.References).Difference(before))
}

func upstreamsOf(references []usage.Reference) sets.Set[string] {
	upstreams := sets.New[string]()
	for _, reference := range references {
		upstreams.Insert(reference.Upstream)
	}
	return upstreams
}

// newly returns the upstreams of the caches that match now and did not match before.
func (r *review) newly(is func(*registry.RegistryCache) bool) []string {
	before := sets.New[string]()
	if r.before != nil {
		before = upstreamsThat(r.before.Config, is)
	}
	return sets.List(upstreamsThat(r.now.Config, is).Difference(before))
}

func upstreamsThat(config *registry.RegistryConfig, is func(*registry.RegistryCache) bool) sets.Set[string] {
	upstreams := sets.New[string]()
	if config == nil {
		return upstreams
	}
	for i := range config.Caches {
		if is(&config.Caches[i]) {
			upstreams.Insert(config.Caches[i].Upstream)
		}
	}
	return upstreams
}

// sendsCredentialsInPlain reports whether a cache sends a credential over plain HTTP.
func sendsCredentialsInPlain(cache *registry.RegistryCache) bool {
	return cache.SecretReferenceName != nil && strings.HasPrefix(ptr.Deref(cache.RemoteURL, ""), "http://")
}

// isLimited reports whether a cache pulls from Docker Hub without a credential.
func isLimited(cache *registry.RegistryCache) bool {
	return cache.SecretReferenceName == nil && ptr.Deref(cache.RemoteURL, "") == upstream.DockerHub.DefaultRemoteURL()
}

// list joins names up to a limit.
func list(names []string) string {
	if more := len(names) - maxWarningNames; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxWarningNames], ", "), more)
	}
	return strings.Join(names, ", ")
}
