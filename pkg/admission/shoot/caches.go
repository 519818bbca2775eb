// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

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
		"set access.mode to PullSecrets or Nodes, or use a read-only credential for what all may see"
	rateLimitWarning = "cache %s: without a credential, Docker Hub applies one rate limit to all pulls from your IP address; " +
		"set secretReferenceName to use the limit of an account"
	plainPullSecretsWarning = "cache %s: pull secrets of pods are sent unencrypted, since remoteURL begins with http://; " +
		"use https:// if the registry supports it"
	foreignPullSecretsWarning = "cache %s: pull secrets of pods are sent to another host than the one that they are for; " +
		"make sure that the host of remoteURL is the same registry"
	plainUpstreamCAWarning = "cache %s: the CA bundle has no effect on the connection to the registry, since remoteURL begins with http://; " +
		"use https:// if the registry supports it"
	plainProxyWarning = "cache %s: the credential for the proxy is sent unencrypted, since the URL of the proxy begins with http://; " +
		"use https:// if the proxy supports it"
	expiryWarning = "Secret %s: the client certificate expires on %s; to replace it, create a new Secret and reference it"
)

// newCaches returns the rules of the extension registry-cache.
func newCaches() (*rules[registry.RegistryConfig], error) {
	extension, err := usage.Caches()
	if err != nil {
		return nil, err
	}
	return &rules[registry.RegistryConfig]{
		Extension:        extension,
		kind:             "RegistryConfig",
		items:            "caches",
		validateCount:    validation.ValidateCount,
		validateUpdate:   validation.ValidateRegistryConfigUpdate,
		validateContent:  validateCacheSecret,
		warnAbout:        warnAboutCacheSecret,
		validateIdentity: validateIdentity,
		upstreams: func(config *registry.RegistryConfig) []string {
			upstreams := make([]string, len(config.Caches))
			for i, cache := range config.Caches {
				upstreams[i] = cache.Upstream
			}
			return upstreams
		},
		onlyForNodes: func(config *registry.RegistryConfig, index int) bool {
			return config.Caches[index].AccessMode() == registry.AccessNodes
		},
		warnings: []warning[registry.RegistryConfig]{
			{format: plainWarning, subjects: cachesThat(sendsCredentialsInPlain)},
			{format: sharedWarning, subjects: sharedUpstreams},
			{format: plainPullSecretsWarning, subjects: cachesThat(sendsPullSecretsInPlain)},
			{format: foreignPullSecretsWarning, subjects: cachesThat(sendsPullSecretsElsewhere)},
			{format: rateLimitWarning, subjects: cachesThat(isLimited)},
			{format: plainUpstreamCAWarning, subjects: cachesThat(hasCAInPlain)},
			{format: plainProxyWarning, subjects: cachesThat(sendsProxyCredentialInPlain)},
		},
		texts: texts{
			content:    "at least one cache",
			workerless: "caches run on worker nodes",
		},
	}, nil
}

// validateCacheSecret validates a Secret once for each purpose, or for each use as a credential.
func validateCacheSecret(secret *corev1.Secret, references []usage.Reference) field.ErrorList {
	content := ownersecret.Parse(secret)
	now := time.Now()
	caBundle := sync.OnceValue(func() field.ErrorList { return ownersecret.ValidateCABundle(secret, now, nil) })
	clientCertificate := sync.OnceValue(func() field.ErrorList { return ownersecret.ValidateClientCertificate(secret, now, nil) })
	proxyCredential := sync.OnceValue(func() field.ErrorList { return ownersecret.ValidateProxyCredential(secret, nil) })
	var allErrs field.ErrorList
	for _, reference := range references {
		switch reference.Purpose {
		case usage.CABundle:
			allErrs = append(allErrs, errorsAt(reference.Path, caBundle())...)
		case usage.ClientCertificate:
			allErrs = append(allErrs, errorsAt(reference.Path, clientCertificate())...)
		case usage.ProxyCredential:
			allErrs = append(allErrs, errorsAt(reference.Path, proxyCredential())...)
		default:
			allErrs = append(allErrs, content.Validate(reference.Use, reference.Path)...)
		}
	}
	return allErrs
}

// errorsAt returns errors for the field that references a Secret.
func errorsAt(fldPath *field.Path, errs field.ErrorList) field.ErrorList {
	allErrs := make(field.ErrorList, len(errs))
	for i, err := range errs {
		here := *err
		here.Field = fldPath.String()
		allErrs[i] = &here
	}
	return allErrs
}

func warnAboutCacheSecret(secret *corev1.Secret, references []usage.Reference) string {
	if !slices.ContainsFunc(references, func(r usage.Reference) bool { return r.Purpose == usage.ClientCertificate }) {
		return ""
	}
	expiry, soon := ownersecret.ClientCertificateExpiry(secret, time.Now())
	if !soon {
		return ""
	}
	return fmt.Sprintf(expiryWarning, shortenTo(secret.Name, maxWarningNamesLength), expiry.UTC().Format(time.DateOnly))
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

// sharedUpstreams returns the upstreams of the caches that let everything use their credential. A rotation does not
// change them.
func sharedUpstreams(use *usage.Usage[registry.RegistryConfig]) sets.Set[string] {
	upstreams := sets.New[string]()
	for _, reference := range use.References {
		if reference.Purpose == usage.Credential {
			upstreams.Insert(reference.Use.Upstream)
		}
	}
	return upstreams.Intersection(cachesThat(isOpen)(use))
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

// isOpen reports whether everything in the cluster can pull from a cache.
func isOpen(cache *registry.RegistryCache) bool {
	return cache.AccessMode() == registry.AccessCluster
}

// sendsPullSecretsInPlain reports whether a cache sends credentials of pods over plain HTTP.
func sendsPullSecretsInPlain(cache *registry.RegistryCache) bool {
	return cache.AccessMode() == registry.AccessPullSecrets && strings.HasPrefix(ptr.Deref(cache.RemoteURL, ""), "http://")
}

// sendsPullSecretsElsewhere reports whether a cache sends credentials of pods to another host than that of the images.
func sendsPullSecretsElsewhere(cache *registry.RegistryCache) bool {
	if cache.AccessMode() != registry.AccessPullSecrets {
		return false
	}
	expected, errExpected := upstream.ParseURL(upstream.Upstream(cache.Upstream).DefaultRemoteURL())
	remote, err := upstream.ParseURL(ptr.Deref(cache.RemoteURL, ""))
	return errExpected == nil && err == nil && remote.Hostname != expected.Hostname
}

// sendsCredentialsInPlain reports whether a cache sends a credential over plain HTTP.
func sendsCredentialsInPlain(cache *registry.RegistryCache) bool {
	return (cache.SecretReferenceName != nil || len(cache.Credentials) > 0) && strings.HasPrefix(ptr.Deref(cache.RemoteURL, ""), "http://")
}

// isLimited reports whether a cache pulls from Docker Hub without a credential.
func isLimited(cache *registry.RegistryCache) bool {
	return cache.SecretReferenceName == nil && ptr.Deref(cache.RemoteURL, "") == upstream.DockerHub.DefaultRemoteURL()
}

// hasCAInPlain reports whether a cache has a CA bundle for a registry that it does not reach over HTTPS. The token
// servers and the targets of redirects may still need it.
func hasCAInPlain(cache *registry.RegistryCache) bool {
	return cache.CABundleSecretReferenceName != nil && strings.HasPrefix(ptr.Deref(cache.RemoteURL, ""), "http://")
}

// sendsProxyCredentialInPlain reports whether a cache sends a credential over plain HTTP to a proxy.
func sendsProxyCredentialInPlain(cache *registry.RegistryCache) bool {
	proxy := ptr.Deref(cache.Proxy, registry.Proxy{})
	return proxy.SecretReferenceName != nil &&
		(strings.HasPrefix(ptr.Deref(proxy.HTTPProxy, ""), "http://") || strings.HasPrefix(ptr.Deref(proxy.HTTPSProxy, ""), "http://"))
}
