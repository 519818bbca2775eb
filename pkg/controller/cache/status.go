// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/provider"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/controller/credentialstate"
	"github.com/larder-project/larder/pkg/credentials"
)

// outcome is what was deployed.
type outcome struct {
	caches []deployment
	// addresses are the cluster IPs of the Services, by name.
	addresses    map[string]net.IP
	pullSecrets  pullSecrets
	certificates certificates
}

// updateStatus writes the endpoints of the caches and the states of their credentials into the provider status. It
// reads the status again, since package health may have updated it, and writes nothing if nothing has changed.
func (a *Actuator) updateStatus(ctx context.Context, ex *extensionsv1alpha1.Extension, deployed outcome) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		present, before, err := a.readStatus(ctx, ex)
		if err != nil {
			return err
		}
		status, err := a.providerStatus(before.caches, deployed)
		if err != nil {
			return err
		}
		ex.Status.ProviderStatus = status
		if present.Status.ProviderStatus != nil && provider.Same(present.Status.ProviderStatus.Raw, status.Raw) {
			return nil
		}
		patch := client.MergeFromWithOptions(present.DeepCopy(), client.MergeFromWithOptimisticLock{})
		present.Status.ProviderStatus = status
		if err := a.Client.Status().Patch(ctx, present, patch); err != nil {
			return fmt.Errorf("update provider status: %w", err)
		}
		return nil
	})
}

func (a *Actuator) providerStatus(before map[string]registry.RegistryCacheStatus, deployed outcome) (*runtime.RawExtension, error) {
	status := &registry.RegistryStatus{CASecretName: deployed.certificates.caBundleName, NodeCertificateSecretName: deployed.certificates.nodeName}
	for _, cache := range deployed.caches {
		next := before[cache.Cache.Upstream] // With the conditions of package health.
		next.Upstream, next.RemoteURL = cache.Cache.Upstream, *cache.Cache.RemoteURL
		next.Endpoint = endpoint(cache, deployed.addresses[cache.ServiceName()])
		next.AccessMode = ""
		if mode := cache.accessMode(); mode != registry.AccessCluster {
			next.AccessMode = mode
		}
		next.PendingAccessMode = ""
		if cache.awaitsNodes {
			next.PendingAccessMode = registry.AccessNodes
		}
		if cache.Deployed == nil {
			next.Credentials, next.RepositoryCredentials = credentialStatuses(cache, next, metav1.NewTime(a.Clock.Now()))
		}
		if next.Accounts = accountStatuses(cache); len(next.Accounts) == 0 {
			next.Conditions = slices.Clone(next.Conditions)
			meta.RemoveStatusCondition(&next.Conditions, registry.ConditionAccountsReady)
		}
		if next.PullSecret = deployed.pullSecrets.status(cache.Cache, next.PullSecret); next.PullSecret == nil {
			next.Conditions = slices.Clone(next.Conditions)
			meta.RemoveStatusCondition(&next.Conditions, registry.ConditionPullSecretReady)
		}
		status.Caches = append(status.Caches, next)
	}
	return a.Codec.EncodeStatus(status)
}

// credentialStatuses returns the states of a cache's credentials after its deployment.
func credentialStatuses(cache deployment, before registry.RegistryCacheStatus, now metav1.Time) (*registry.CredentialsStatus, []registry.RepositoryCredentialStatus) {
	deployed := credentialstate.Deployed{Wanted: cache.Credential, Previous: cache.PreviousCredential}
	repositories := make([]registry.RepositoryCredentialStatus, 0, len(cache.RepositoryCredentials))
	for _, credential := range cache.RepositoryCredentials {
		deployed := credentialstate.Deployed{Wanted: credential.Credential, Previous: credential.Previous}
		if status := deployed.Status(statusOf(before, credential.Repositories), now); status != nil {
			repositories = append(repositories, registry.RepositoryCredentialStatus{Repositories: credential.Repositories, Credentials: *status})
		}
	}
	return deployed.Status(before.Credentials, now), repositories
}

// statusOf returns the state of the credential for some repositories, nil if there is none.
func statusOf(cache registry.RegistryCacheStatus, repositories []string) *registry.CredentialsStatus {
	prefix := credentials.Prefix(repositories)
	for i := range cache.RepositoryCredentials {
		if status := &cache.RepositoryCredentials[i]; credentials.Prefix(status.Repositories) == prefix {
			return &status.Credentials
		}
	}
	return nil
}

func endpoint(cache deployment, address net.IP) string {
	scheme := "http"
	if cache.ServesTLS() {
		scheme = "https"
	}
	endpoint := url.URL{Scheme: scheme, Host: net.JoinHostPort(address.String(), strconv.Itoa(config.Port))}
	return endpoint.String()
}
