// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot

import (
	"strings"

	securityv1alpha1 "github.com/gardener/gardener/pkg/apis/security/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/admission/usage"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/validation"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
	"github.com/larder-project/larder/pkg/upstream"
)

const (
	plainWarning = "cache %s: the credential is sent unencrypted, since remoteURL begins with http://; " +
		"use https:// if the registry supports it"
	sharedWarning = "cache %s: every pod in the cluster can pull what this credential can pull; " +
		"use one that is read-only and limited to what the whole cluster may see"
	rateLimitWarning = "cache %s: without a credential, Docker Hub applies one rate limit to all pulls from your IP address; " +
		"set secretReferenceName to use the limit of an account"
)

// newCaches returns the rules of the extension registry-cache.
func newCaches() (*rules[registry.RegistryConfig], error) {
	extension, err := usage.Caches()
	if err != nil {
		return nil, err
	}
	return &rules[registry.RegistryConfig]{
		Extension:      extension,
		kind:           "RegistryConfig",
		items:          "caches",
		validateCount:  validation.ValidateCount,
		validateUpdate: validation.ValidateRegistryConfigUpdate,
		validateContent: func(secret *corev1.Secret, references []usage.Reference) field.ErrorList {
			content := ownersecret.Parse(secret)
			var allErrs field.ErrorList
			for _, reference := range references {
				allErrs = append(allErrs, content.Validate(reference.Use, reference.Path)...)
			}
			return allErrs
		},
		validateIdentity: validateIdentity,
		upstreams: func(config *registry.RegistryConfig) []string {
			upstreams := make([]string, len(config.Caches))
			for i, cache := range config.Caches {
				upstreams[i] = cache.Upstream
			}
			return upstreams
		},
		warnings: []warning[registry.RegistryConfig]{
			{format: plainWarning, subjects: cachesThat(sendsCredentialsInPlain)},
			{format: sharedWarning, subjects: privateUpstreams},
			{format: rateLimitWarning, subjects: cachesThat(isLimited)},
		},
		texts: texts{
			content:       "at least one cache",
			secretContent: "the credential",
			workerless:    "caches run on worker nodes",
		},
	}, nil
}

// validateIdentity validates a WorkloadIdentity for a reference to it.
func validateIdentity(identity *securityv1alpha1.WorkloadIdentity, reference usage.Reference) field.ErrorList {
	system := identity.Spec.TargetSystem
	described := credentials.WorkloadIdentity{Provider: credentials.Provider(system.Type)}
	if system.ProviderConfig != nil {
		described.Config = string(system.ProviderConfig.Raw)
	}
	return ownersecret.ValidateWorkloadIdentity(described, identity.Namespace+"/"+identity.Name, reference.Use, reference.Path)
}

// privateUpstreams returns the upstreams of the caches with a credential. A rotation does not change them.
func privateUpstreams(use *usage.Usage[registry.RegistryConfig]) sets.Set[string] {
	upstreams := sets.New[string]()
	for _, reference := range use.References {
		upstreams.Insert(reference.Use.Upstream)
	}
	return upstreams
}

// cachesThat returns the upstreams of the caches that match.
func cachesThat(match func(*registry.RegistryCache) bool) func(*usage.Usage[registry.RegistryConfig]) sets.Set[string] {
	return func(use *usage.Usage[registry.RegistryConfig]) sets.Set[string] {
		upstreams := sets.New[string]()
		for i := range use.Config.Caches {
			if match(&use.Config.Caches[i]) {
				upstreams.Insert(use.Config.Caches[i].Upstream)
			}
		}
		return upstreams
	}
}

// sendsCredentialsInPlain reports whether a cache sends a credential over plain HTTP.
func sendsCredentialsInPlain(cache *registry.RegistryCache) bool {
	return (cache.SecretReferenceName != nil || len(cache.Credentials) > 0) && strings.HasPrefix(ptr.Deref(cache.RemoteURL, ""), "http://")
}

// isLimited reports whether a cache pulls from Docker Hub without a credential.
func isLimited(cache *registry.RegistryCache) bool {
	return cache.SecretReferenceName == nil && ptr.Deref(cache.RemoteURL, "") == upstream.DockerHub.DefaultRemoteURL()
}
