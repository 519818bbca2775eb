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

// maxWarningNames is how many names a warning has. API servers shorten or drop
// warnings that get long.
const maxWarningNames = 3

const (
	plainWarning = "cache %s: the credentials travel unencrypted, since its remoteURL begins with http://; " +
		"let it begin with https:// if the registry serves that"
	sharedWarning = "cache %s: every pod of the cluster can pull what these credentials can; " +
		"let them only read, and only what all of the cluster may see"
	rateLimitWarning = "cache %s: without credentials, Docker Hub limits the pulls of everybody behind your IP address together; " +
		"an account, by secretReferenceName, has a limit of its own"
)

// warnings returns what is valid but may hurt. It is about what the update
// brings, and so silent about what the owner has been told before.
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

// newlyPrivate returns the upstreams whose caches get credentials. Rotation
// does not make a cache more private than it was.
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

// newly returns the upstreams whose caches begin to be as given.
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

// sendsCredentialsInPlain says that a cache presents credentials over plain HTTP.
func sendsCredentialsInPlain(cache *registry.RegistryCache) bool {
	return cache.SecretReferenceName != nil && strings.HasPrefix(ptr.Deref(cache.RemoteURL, ""), "http://")
}

// isLimited says that a cache pulls from Docker Hub without an account.
func isLimited(cache *registry.RegistryCache) bool {
	dockerHub := upstream.Upstream("docker.io").DefaultRemoteURL()
	return cache.SecretReferenceName == nil && ptr.Deref(cache.RemoteURL, "") == dockerHub
}

// list joins names, but not too many of them.
func list(names []string) string {
	if more := len(names) - maxWarningNames; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxWarningNames], ", "), more)
	}
	return strings.Join(names, ", ")
}
