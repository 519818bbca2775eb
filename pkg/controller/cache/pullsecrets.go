// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	gardenerimagevector "github.com/gardener/gardener/pkg/utils/imagevector"
	"github.com/gardener/gardener/pkg/utils/retry"
	"github.com/go-logr/logr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/imagevector"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/component/pullsecrets"
	"github.com/larder-project/larder/pkg/controller/shoot"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/excerpt"
	"github.com/larder-project/larder/pkg/problem"
	"github.com/larder-project/larder/pkg/pullsecret"
	"github.com/larder-project/larder/pkg/upstream"
)

const (
	// ManagedResourcePullSecrets is the name of the ManagedResource with the controller of pull secrets. It exists only if
	// a cache has one.
	ManagedResourcePullSecrets = "extension-registry-cache-pull-secrets"

	// cleanupTimeout bounds the wait until the controller in the Shoot has removed its references from ServiceAccounts.
	cleanupTimeout = 30 * time.Second
)

// pullSecrets are the deployed pull secrets.
type pullSecrets struct {
	feed pullsecret.Feed
}

// status returns the status of a cache's pull secret, nil if it has none.
func (p pullSecrets) status(cache registry.RegistryCache) *registry.PullSecretStatus {
	if cache.PullSecret == nil {
		return nil
	}
	status := &registry.PullSecretStatus{Name: cache.PullSecret.Name}
	for _, repositories := range repositoriesOf(cache) {
		if credential := p.feed.Published(cache.PullSecret.Name, cache.Upstream, repositories); credential != nil && credential.Material != nil {
			status.SecretNames = append(status.SecretNames, credential.Name)
		}
	}
	return status
}

// deployPullSecrets deploys the controller that keeps pull secrets in the Shoot, with what it needs to know. Call it
// before the caches are deployed: the annotation by which an owner learns that a rotation is complete then changes
// last.
func (a *Actuator) deployPullSecrets(ctx context.Context, log logr.Logger, access *shoot.Shoot, cluster *extensionscontroller.Cluster, caches []deployment, statuses map[string]registry.RegistryCacheStatus) (pullSecrets, error) {
	namespace := cluster.ObjectMeta.Name
	objects, err := readObjects(ctx, a.Client, namespace, ManagedResourcePullSecrets)
	if err != nil {
		return pullSecrets{}, err
	}
	before, err := pullsecrets.FeedOf(objects)
	if err != nil {
		return pullSecrets{}, fmt.Errorf("decode deployed feed: %w", err)
	}
	feed := feedOf(caches, statuses, before)
	switch {
	case len(feed.Secrets) > 0:
		err = a.deployFeed(ctx, cluster, feed)
	case len(objects) > 0:
		err = a.retirePullSecrets(ctx, log, access, cluster, len(before.Secrets) > 0)
	}
	if err != nil {
		return pullSecrets{feed: before}, err
	}
	return pullSecrets{feed: feed}, nil
}

func (a *Actuator) deployFeed(ctx context.Context, cluster *extensionscontroller.Cluster, feed pullsecret.Feed) error {
	image, err := a.Images.FindImage(imagevector.RegistryCachePullSecrets, gardenerimagevector.TargetVersion(cluster.Shoot.Spec.Kubernetes.Version))
	if err != nil {
		return fmt.Errorf("find image of the controller of pull secrets: %w", err)
	}
	objects, err := pullsecrets.Objects(pullsecrets.Values{
		Image: image.String(), Feed: feed, VerticalPodAutoscaler: v1beta1helper.ShootWantsVerticalPodAutoscaler(cluster.Shoot),
	})
	if err != nil {
		return problem.Configuration(err)
	}
	return a.deploy(ctx, cluster.ObjectMeta.Name, ManagedResourcePullSecrets, objects, nil)
}

// retirePullSecrets removes all pull secrets, and then their controller. Kubernetes deletes the Secrets with their
// owners, but only the controller removes the references in ServiceAccounts. If it does not report that in time,
// because the Shoot has no nodes for example, it stays with nothing to keep, and the next reconciliation removes it.
func (a *Actuator) retirePullSecrets(ctx context.Context, log logr.Logger, access *shoot.Shoot, cluster *extensionscontroller.Cluster, wait bool) error {
	if err := a.deployFeed(ctx, cluster, pullsecret.Feed{}); err != nil {
		return err
	}
	if !a.awaitCleanup(ctx, access, wait) {
		log.Info("Keeping the controller of pull secrets until it has removed its references")
		return nil
	}
	return a.removeManagedResource(ctx, cluster.ObjectMeta.Name, ManagedResourcePullSecrets, false)
}

// removePullSecrets removes all pull secrets and their controller when the extension leaves a Shoot that stays.
// References that remain since the controller does not run are harmless: the kubelet ignores those to Secrets that do
// not exist.
func (a *Actuator) removePullSecrets(ctx context.Context, log logr.Logger, cluster *extensionscontroller.Cluster) error {
	namespace := cluster.ObjectMeta.Name
	objects, err := readObjects(ctx, a.Client, namespace, ManagedResourcePullSecrets)
	if err != nil {
		return err
	}
	if len(objects) > 0 {
		if err := a.cleanUpPullSecrets(ctx, cluster); err != nil {
			log.Info("Removing the controller of pull secrets although its references may remain", "reason", excerpt.Line(err.Error(), problem.MaxLength))
		}
	}
	return a.removeManagedResource(ctx, namespace, ManagedResourcePullSecrets, true)
}

var errNotCleanedUp = errors.New("the controller has not reported in time that it has removed its references")

func (a *Actuator) cleanUpPullSecrets(ctx context.Context, cluster *extensionscontroller.Cluster) error {
	access, err := shoot.Connect(ctx, a.Client, cluster.ObjectMeta.Name)
	if err != nil {
		return err
	}
	defer access.Close()
	if err := a.deployFeed(ctx, cluster, pullsecret.Feed{}); err != nil {
		return err
	}
	if !a.awaitCleanup(ctx, access, true) {
		return errNotCleanedUp
	}
	return nil
}

// awaitCleanup reports whether the controller has removed everything. Without wait, it asks once.
func (a *Actuator) awaitCleanup(ctx context.Context, access *shoot.Shoot, wait bool) bool {
	encoded, err := pullsecret.Feed{}.Encode()
	if err != nil {
		return false
	}
	timeout := pollInterval
	if wait {
		timeout = cleanupTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return retry.Until(ctx, pollInterval, func(ctx context.Context) (bool, error) {
		key := client.ObjectKey{Namespace: pullsecret.Namespace, Name: pullsecrets.PodName}
		content, err := access.GetFromPod(ctx, key, pullsecret.Port, pullsecret.ReportPath)
		if err != nil {
			return retry.MinorError(err)
		}
		var report pullsecret.Report
		if err := json.Unmarshal(content, &report); err != nil {
			return retry.MinorError(errors.New("invalid report"))
		}
		if !report.Done(pullsecret.Digest(encoded)) {
			return retry.MinorError(errNotCleanedUp)
		}
		return retry.Ok()
	}) == nil
}

// feedOf returns the feed for the caches. Before is the one that is deployed.
func feedOf(caches []deployment, statuses map[string]registry.RegistryCacheStatus, before pullsecret.Feed) pullsecret.Feed {
	var feed pullsecret.Feed
	byName := map[string]int{}
	for _, cache := range caches {
		wanted := cache.Cache.PullSecret
		if wanted == nil {
			continue
		}
		i, known := byName[wanted.Name]
		if !known {
			i = len(feed.Secrets)
			byName[wanted.Name] = i
			feed.Secrets = append(feed.Secrets, pullsecret.Secret{
				Name: wanted.Name, Namespaces: wanted.Namespaces, NamespaceSelector: wanted.NamespaceSelector,
				AddToDefaultServiceAccounts: wanted.AddToDefaultServiceAccounts,
			})
		}
		feed.Secrets[i].Registries = append(feed.Secrets[i].Registries, registryOf(cache, statuses[cache.Cache.Upstream], before))
	}
	return feed
}

// registryOf returns the registry of a cache with the credentials that pods may have.
func registryOf(cache deployment, status registry.RegistryCacheStatus, before pullsecret.Feed) pullsecret.Registry {
	r := pullsecret.Registry{Upstream: cache.Cache.Upstream, Host: apiHost(cache.Cache)}
	isIssued := false
	for _, repositories := range repositoriesOf(cache.Cache) {
		var accepted *registry.CredentialsStatus
		if len(repositories) == 0 {
			accepted = status.Credentials
		} else {
			accepted = statusOf(status, repositories)
		}
		published := before.Published(cache.Cache.PullSecret.Name, cache.Cache.Upstream, repositories)
		next := publish(cache.wantedCredential(repositories), accepted, published)
		next.Repositories = repositories
		isIssued = isIssued || next.Material != nil && !next.Material.IsStatic()
		r.Credentials = append(r.Credentials, next)
	}
	if isIssued {
		r.Connection = connectionOf(cache)
	}
	return r
}

// publish returns the credential that pods get: the wanted one once the upstream has accepted it, and until then the
// one that they have. If that is not known, because the Shoot was moved to this seed for example, they keep what they
// have.
func publish(wanted *credentials.Named, status *registry.CredentialsStatus, published *pullsecret.Credential) pullsecret.Credential {
	hasPublished := published != nil && published.Material != nil
	switch {
	case wanted == nil && published != nil:
		return *published
	case wanted == nil:
		return pullsecret.Credential{}
	case status != nil && status.State == registry.CredentialsActive && status.SecretName == wanted.Name,
		// The token of a workload identity may be newer.
		hasPublished && wanted.Same(credentials.Named{Name: published.Name, Material: *published.Material}):
		return pullsecret.Credential{Name: wanted.Name, Material: &wanted.Material}
	case hasPublished:
		return *published
	}
	return pullsecret.Credential{Name: wanted.Name}
}

// repositoriesOf returns the repositories of each credential of a cache, none for all repositories.
func repositoriesOf(cache registry.RegistryCache) [][]string {
	var all [][]string
	if cache.SecretReferenceName != nil {
		all = append(all, nil)
	}
	for _, credential := range cache.Credentials {
		all = append(all, credential.Repositories)
	}
	return all
}

// wantedCredential returns the credential for some repositories, or nil if it cannot be used.
func (d deployment) wantedCredential(repositories []string) *credentials.Named {
	if len(repositories) == 0 {
		return d.Credential
	}
	for i := range d.RepositoryCredentials {
		if credential := &d.RepositoryCredentials[i]; credentials.Prefix(credential.Repositories) == credentials.Prefix(repositories) {
			return credential.Credential
		}
	}
	return nil
}

// apiHost returns the host of the upstream's API without a port.
func apiHost(cache registry.RegistryCache) string {
	return upstream.Upstream(cache.Upstream).APIHost(ptr.Deref(cache.RemoteURL, ""))
}

// connectionOf returns how a cache connects to the services that issue its credentials.
func connectionOf(cache deployment) pullsecret.Connection {
	connection := pullsecret.Connection{CABundle: string(cache.Connection.CABundle)}
	if cache.Cache.Proxy == nil || cache.Cache.Proxy.HTTPSProxy == nil {
		return connection
	}
	connection.HTTPSProxy, connection.NoProxy = *cache.Cache.Proxy.HTTPSProxy, cache.Cache.Proxy.NoProxy
	if proxy, err := url.Parse(connection.HTTPSProxy); err == nil && cache.Connection.ProxyCredential != nil {
		proxy.User = url.UserPassword(cache.Connection.ProxyCredential.Username, cache.Connection.ProxyCredential.Password)
		connection.HTTPSProxy = proxy.String()
	}
	return connection
}
