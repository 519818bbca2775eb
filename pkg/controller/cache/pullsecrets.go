// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	gardenerimagevector "github.com/gardener/gardener/pkg/utils/imagevector"
	"github.com/gardener/gardener/pkg/utils/retry"
	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/imagevector"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/component/pullsecrets"
	"github.com/larder-project/larder/pkg/controller/credentialstate"
	"github.com/larder-project/larder/pkg/controller/shoot"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/excerpt"
	"github.com/larder-project/larder/pkg/problem"
	"github.com/larder-project/larder/pkg/pullsecret"
)

const (
	// ManagedResourcePullSecrets is the name of the ManagedResource with the controller of pull secrets. It exists only if
	// a cache has one, or accounts.
	ManagedResourcePullSecrets = pullsecrets.ManagedResource

	// cleanupTimeout bounds the wait until the controller in the Shoot has removed its references from ServiceAccounts.
	cleanupTimeout = 30 * time.Second
	// distributionTimeout bounds the wait, within a reconciliation, until all namespaces have an accepted credential.
	distributionTimeout = 10 * time.Second
	// maxDistribution bounds the time for which the end of a rotation is delayed because namespaces do not have the new
	// credential. Ten thousand namespaces take half of it.
	maxDistribution = 15 * time.Minute
)

// pullSecretInput is what pull secrets are deployed for.
type pullSecretInput struct {
	ex      *extensionsv1alpha1.Extension
	cluster *extensionscontroller.Cluster
	access  *shoot.Shoot
	caches  []deployment
	found   observed
	// caBundle has the authorities of the caches' certificates.
	caBundle []byte
}

// pullSecrets are the deployed pull secrets.
type pullSecrets struct {
	// feed is nil if it could not be read.
	feed *pullsecret.Feed
	// digest is that of the feed, empty if it could not be deployed.
	digest string
}

// status returns the status of a cache's pull secret, nil if it has none. Before is the status before.
func (p pullSecrets) status(cache registry.RegistryCache, before *registry.PullSecretStatus) *registry.PullSecretStatus {
	switch {
	case cache.PullSecret == nil:
		return nil
	case p.feed == nil && before != nil && before.Name == cache.PullSecret.Name:
		return before
	case p.feed == nil:
		return &registry.PullSecretStatus{Name: cache.PullSecret.Name}
	}
	status := &registry.PullSecretStatus{Name: cache.PullSecret.Name}
	for _, repositories := range repositoriesOf(cache) {
		if credential := p.feed.Published(cache.PullSecret.Name, cache.Upstream, repositories); credential != nil && credential.Material != nil {
			status.SecretNames = append(status.SecretNames, credential.Name)
		}
	}
	return status
}

// deployPullSecrets deploys the controller that keeps pull secrets and the Secrets of accounts in the Shoot, with what
// it needs to know. Call it before the caches are deployed: the annotation by which an owner learns that a rotation is
// complete then changes last.
func (a *Actuator) deployPullSecrets(ctx context.Context, log logr.Logger, in pullSecretInput) (pullSecrets, error) {
	config, err := a.Codec.DecodeConfig(in.ex.Spec.ProviderConfig)
	if err != nil {
		return pullSecrets{}, err
	}
	objects, err := readObjects(ctx, a.Client, in.ex.Namespace, ManagedResourcePullSecrets)
	if err != nil {
		return pullSecrets{}, err
	}
	before, unreadable := pullsecrets.FeedOf(objects)
	if unreadable != nil {
		// It must not block its own replacement. The pull secrets keep what they have.
		log.Info("Ignoring the deployed feed of pull secrets", "reason", unreadable.Error())
	}
	feed, problems := limited(feedOf(config.Caches, in, before), before)
	digest := ""
	switch {
	case !feed.IsEmpty():
		digest, err = a.deployFeed(ctx, in.cluster, feed)
	case len(objects) > 0:
		err = a.retirePullSecrets(ctx, log, in, unreadable != nil || len(before.Secrets) > 0)
	}
	if err != nil {
		return pullSecrets{feed: &before}, problem.Join(append(problems, err))
	}
	return pullSecrets{feed: &feed, digest: digest}, problem.Join(problems)
}

// deployFeed deploys the controller with a feed, and returns its digest.
func (a *Actuator) deployFeed(ctx context.Context, cluster *extensionscontroller.Cluster, feed pullsecret.Feed) (string, error) {
	image, err := a.Images.FindImage(imagevector.RegistryCachePullSecrets, gardenerimagevector.TargetVersion(cluster.Shoot.Spec.Kubernetes.Version))
	if err != nil {
		return "", fmt.Errorf("find image of the controller of pull secrets: %w", err)
	}
	encoded, err := feed.Encode()
	if err != nil {
		return "", problem.Configuration(err)
	}
	objects, err := pullsecrets.Objects(pullsecrets.Values{
		Image: image.String(), Feed: feed, VerticalPodAutoscaler: v1beta1helper.ShootWantsVerticalPodAutoscaler(cluster.Shoot),
	})
	if err != nil {
		return "", err
	}
	digest := pullsecret.Digest(encoded)
	labels := map[string]string{pullsecrets.FeedLabel: digest}
	return digest, a.deploy(ctx, cluster.ObjectMeta.Name, ManagedResourcePullSecrets, objects, &metadata{labels: labels})
}

// keepUndistributed makes the caches keep a previous credential, although the upstream has accepted another, while some
// namespaces still have it in their pull secret: an owner revokes it at the end of the rotation. Problems of namespaces
// delay that for a limited time only, since the condition of the pull secret shows them.
func (a *Actuator) keepUndistributed(in pullSecretInput, isDistributed func() bool) {
	var kept []func()
	for i := range in.caches {
		cache := &in.caches[i]
		if cache.Cache.PullSecret == nil {
			continue
		}
		status, deployed := in.found.status.caches[cache.Cache.Upstream], in.found.credentials[cache.Name()]
		whole := deployed[""]
		if wanted, previous := cache.wantedCredential(nil); wanted != nil && a.wasJustAccepted(*wanted, previous, whole, status.Credentials) {
			kept = append(kept, func() { cache.PreviousCredential = whole.Previous })
		}
		for i := range cache.RepositoryCredentials {
			credential := &cache.RepositoryCredentials[i]
			part := deployed[credentials.Prefix(credential.Repositories)]
			wanted, previous := cache.wantedCredential(credential.Repositories)
			if wanted != nil && a.wasJustAccepted(*wanted, previous, part, statusOf(status, credential.Repositories)) {
				kept = append(kept, func() { credential.Previous = part.Previous })
			}
		}
	}
	if len(kept) == 0 || isDistributed() {
		return
	}
	for _, keep := range kept {
		keep()
	}
}

// wasJustAccepted reports whether the previous credential is about to be removed because all replicas have activated the
// wanted one, not long ago. One with the same name is of a WorkloadIdentity that was changed, which cannot be revoked.
func (a *Actuator) wasJustAccepted(wanted credentials.Named, previous *credentials.Named, deployed credentialstate.Deployed, status *registry.CredentialsStatus) bool {
	return deployed.Previous != nil && deployed.Previous.Name != wanted.Name && isAccepted(&wanted, previous, deployed, status) &&
		a.Clock.Since(status.Since.Time).Abs() < maxDistribution
}

// isAccepted reports whether the upstream has accepted a credential, and not only another one with the same name.
func isAccepted(wanted, previous *credentials.Named, deployed credentialstate.Deployed, status *registry.CredentialsStatus) bool {
	return status != nil && status.State == registry.CredentialsActive && status.SecretName == wanted.Name &&
		previous == nil && deployed.Wanted != nil && deployed.Wanted.Same(*wanted)
}

// retirePullSecrets removes all pull secrets, and then their controller. Kubernetes deletes the Secrets with their
// owners, but only the controller removes the references in ServiceAccounts. If it does not report that in time,
// because the Shoot has no nodes for example, it stays with nothing to keep, and the next reconciliation removes it.
func (a *Actuator) retirePullSecrets(ctx context.Context, log logr.Logger, in pullSecretInput, wait bool) error {
	digest, err := a.deployFeed(ctx, in.cluster, pullsecret.Feed{})
	if err != nil {
		return err
	}
	timeout := pollInterval
	if wait {
		timeout = cleanupTimeout
	}
	if !a.awaitReport(ctx, in.access, digest, timeout) {
		log.Info("Keeping the controller of pull secrets until it has removed its references")
		return nil
	}
	return a.removeManagedResource(ctx, in.ex.Namespace, ManagedResourcePullSecrets, false)
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

var errNotDone = errors.New("the controller has not reported in time that it is done")

func (a *Actuator) cleanUpPullSecrets(ctx context.Context, cluster *extensionscontroller.Cluster) error {
	access, err := shoot.Connect(ctx, a.Client, cluster.ObjectMeta.Name)
	if err != nil {
		return err
	}
	defer access.Close()
	digest, err := a.deployFeed(ctx, cluster, pullsecret.Feed{})
	if err != nil {
		return err
	}
	if !a.awaitReport(ctx, access, digest, cleanupTimeout) {
		return errNotDone
	}
	return nil
}

// awaitReport reports whether the controller is done with a feed in time.
func (a *Actuator) awaitReport(ctx context.Context, access *shoot.Shoot, digest string, timeout time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return retry.Until(ctx, pollInterval, func(ctx context.Context) (bool, error) {
		key := client.ObjectKey{Namespace: pullsecret.Namespace, Name: pullsecrets.PodName}
		content, err := access.GetFromPod(ctx, key, pullsecret.Port, pullsecret.ReportPath, nil)
		if err != nil {
			return retry.MinorError(err)
		}
		var report pullsecret.Report
		if err := json.Unmarshal(content, &report); err != nil {
			return retry.MinorError(errors.New("invalid report"))
		}
		if !report.Done(digest) {
			return retry.MinorError(errNotDone)
		}
		return retry.Ok()
	}) == nil
}
