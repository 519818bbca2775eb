// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/admission/usage"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
	"github.com/larder-project/larder/pkg/upstream"
)

// maxWarningNames is how many names a warning has. API servers shorten or drop
// warnings that get long.
const maxWarningNames = 3

const (
	lineEndWarning = "Secret %s: the password ends in a line break, which the registry gets as a part of it; " +
		"if it is there by accident, create another Secret without it"
	sharedWarning = "cache %s: every pod of the cluster can pull what these credentials can; " +
		"let them only read, and only what all of the cluster may see"
	rateLimitWarning = "cache %s: without credentials, Docker Hub limits the pulls of everybody behind your IP address together; " +
		"an account, by secretReferenceName, has a limit of its own"
)

// warnings returns what is valid but may hurt. It is about what the update
// brings, and so silent about what the owner has been told before. The Secrets
// are those of secretNames.
func (r *review) warnings(secrets map[string]*corev1.Secret) []string {
	var warnings []string
	warn := func(format string, names []string) {
		if len(names) > 0 {
			warnings = append(warnings, fmt.Sprintf(format, list(names)))
		}
	}
	if r.now == nil {
		return nil
	}
	warn(lineEndWarning, r.secretsWithLineEnd(secrets))
	warn(sharedWarning, r.newlyPrivate())
	warn(rateLimitWarning, r.newlyLimited())
	return warnings
}

// secretsWithLineEnd returns the names of new Secrets with what `echo` and
// editors leave at the end of a password. A registry might want it, but hardly.
func (r *review) secretsWithLineEnd(secrets map[string]*corev1.Secret) []string {
	var names []string
	for _, name := range r.secretNames() {
		secret := secrets[name]
		if secret == nil {
			continue
		}
		credential, errs := ownersecret.Credential(secret, nil)
		// At the end of JSON a line end means nothing.
		if len(errs) == 0 && credential.Username != ownersecret.JSONKeyUsername && strings.HasSuffix(credential.Password, "\n") {
			names = append(names, name)
		}
	}
	return names
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

// newlyLimited returns the upstreams whose caches begin to pull from Docker Hub as nobody.
func (r *review) newlyLimited() []string {
	before := sets.New[string]()
	if r.before != nil {
		before = limitedUpstreams(r.before.Config)
	}
	return sets.List(limitedUpstreams(r.now.Config).Difference(before))
}

func limitedUpstreams(config *registry.RegistryConfig) sets.Set[string] {
	upstreams := sets.New[string]()
	if config == nil {
		return upstreams
	}
	dockerHub := upstream.Upstream("docker.io").DefaultRemoteURL()
	for _, cache := range config.Caches {
		if cache.SecretReferenceName == nil && ptr.Deref(cache.RemoteURL, "") == dockerHub {
			upstreams.Insert(cache.Upstream)
		}
	}
	return upstreams
}

// list joins names, but not too many of them.
func list(names []string) string {
	if more := len(names) - maxWarningNames; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxWarningNames], ", "), more)
	}
	return strings.Join(names, ", ")
}
