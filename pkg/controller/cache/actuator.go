// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	gardenerimagevector "github.com/gardener/gardener/pkg/utils/imagevector"
	"github.com/go-logr/logr"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/controller/extension"
	"github.com/larder-project/larder/pkg/controller/shoot"
	"github.com/larder-project/larder/pkg/excerpt"
	"github.com/larder-project/larder/pkg/problem"
)

// Actuator reconciles Extensions of type registry-cache. It must not be copied.
type Actuator struct {
	// Client is an uncached client for the seed: reconciliations are rare, and must not act on stale objects.
	Client client.Client
	// Codec decodes the provider configuration and encodes the provider status.
	Codec *codec.Codec
	// Images contains the image of the cache server.
	Images gardenerimagevector.ImageVector
	// Clock decides which certificates are due for renewal.
	Clock clock.Clock
	// Recorder records what could not be done, but is no error of the Extension.
	Recorder events.EventRecorder
	// Unobserved notes the Shoots whose observability has to be deployed again.
	Unobserved Unobserved
	// CopyTimeout bounds the wait until the Secrets that a Shoot references are copied to the seed.
	CopyTimeout time.Duration
	// RetryTimeout bounds the reconciliation of an Extension whose last one failed.
	RetryTimeout time.Duration
}

// Reconcile deploys the caches. It does not wait until they run: a Shoot that is being created has no nodes before this
// is done. A problem of one cache does not stop the others; it is returned at the end.
func (a *Actuator) Reconcile(ctx context.Context, log logr.Logger, ex *extensionsv1alpha1.Extension) error {
	ctx, cancel := a.limited(ctx, ex)
	defer cancel()
	return excerpt.Error(a.reconcile(ctx, log, ex), problem.MaxError)
}

func (a *Actuator) reconcile(ctx context.Context, log logr.Logger, ex *extensionsv1alpha1.Extension) error {
	cluster, err := extension.ReadCluster(ctx, a.Client, ex.Namespace)
	if err != nil {
		return fmt.Errorf("read Cluster: %w", err)
	}
	if extensionscontroller.IsHibernationEnabled(cluster) {
		log.Info("Skipping the caches of a hibernated Shoot until it wakes up")
		return nil
	}
	// Before the tokens are read: one that changes meanwhile is deployed once more, not missed.
	tokens, err := a.tokenDigest(ctx, ex, cluster)
	if err != nil {
		return err
	}
	caches, problems, err := a.readCaches(ctx, ex, cluster)
	if err != nil {
		return err
	}

	if caches, err = a.deployServices(ctx, log, cluster, caches); err != nil {
		return err
	}
	access, err := shoot.Connect(ctx, a.Client, ex.Namespace)
	if err != nil {
		return err
	}
	defer access.Close()
	found, err := a.observe(ctx, access, ex, caches)
	if err != nil {
		return err
	}
	keepsNode, err := a.keepsNodeCertificate(ctx, ex.Namespace, found)
	if err != nil {
		return err
	}
	request := certificateRequest{cluster: cluster, caches: caches, addresses: found.addresses, keepsNode: keepsNode}
	certificates, err := a.issueCertificates(ctx, log, request)
	if err != nil {
		return err
	}
	stuck, refusals := expandClaims(ctx, log, access, caches, found.claims)
	caches = complete(caches, found, stuck, certificates)
	allowed := allowReplacement(ctx, log, access, caches)
	pulls := pullSecretInput{ex: ex, cluster: cluster, access: access, caches: caches, found: found, caBundle: certificates.caBundle}
	secrets, err := a.deployPullSecrets(ctx, log, pulls)
	if err != nil {
		problems = append(problems, fmt.Errorf("pull secrets: %w", err))
	}
	a.keepUndistributed(pulls, func() bool {
		return secrets.digest != "" && a.awaitReport(ctx, access, secrets.digest, distributionTimeout)
	})
	if err := a.deployCaches(ctx, ex.Namespace, caches, metadata{labels: awaitingNodes(caches, found, certificates), annotations: tokenAnnotations(tokens)}); err != nil {
		return err
	}
	// The steps below may fail again and again. Until they succeed, new caches need an observer most.
	a.observeCaches(ctx, log, ex, cluster, caches)
	if err := a.replaceOutgrownStatefulSets(ctx, log, access, ex.Namespace, caches); err != nil {
		return err
	}
	if allowed {
		allowReplacementOfNew(ctx, log, access, caches)
	}
	if err := deleteSurplusClaims(ctx, log, access, caches, found.claims); err != nil {
		return err
	}
	if certificates, err = a.dropOldCA(ctx, log, request, certificates); err != nil {
		return err
	}
	outcome := outcome{caches: caches, addresses: found.addresses, pullSecrets: secrets, certificates: certificates}
	if err := a.updateStatus(ctx, ex, outcome); err != nil {
		return err
	}
	if err := certificates.deleteUnused(ctx); err != nil {
		return err
	}
	return problem.Join(append(problems, refusals...))
}

// limited shortens the timeout after a failure, so that a few failing Extensions do not starve the others.
func (a *Actuator) limited(ctx context.Context, ex *extensionsv1alpha1.Extension) (context.Context, context.CancelFunc) {
	if ex.Status.LastError == nil {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, a.RetryTimeout)
}

// Restore reconciles: only the CA must survive a change of seed, and gardenlet moves it.
func (a *Actuator) Restore(ctx context.Context, log logr.Logger, ex *extensionsv1alpha1.Extension) error {
	return a.Reconcile(ctx, log, ex)
}

// Delete removes the caches with all their objects, apart from Services that nodes may still use. In a hibernated
// Shoot, gardener-resource-manager removes them on wake-up.
func (a *Actuator) Delete(ctx context.Context, log logr.Logger, ex *extensionsv1alpha1.Extension) error {
	ctx, cancel := a.limited(ctx, ex)
	defer cancel()
	a.Unobserved.remove(ex.Namespace)
	return excerpt.Error(a.delete(ctx, log, ex), problem.MaxError)
}

func (a *Actuator) delete(ctx context.Context, log logr.Logger, ex *extensionsv1alpha1.Extension) error {
	cluster, err := extension.ReadCluster(ctx, a.Client, ex.Namespace)
	if err != nil {
		return fmt.Errorf("read Cluster: %w", err)
	}
	leaves := cluster.Shoot.DeletionTimestamp != nil
	hibernated := extensionscontroller.IsHibernated(cluster) && !leaves
	switch {
	case hibernated:
		log.Info("Removing the caches of a hibernated Shoot when it wakes up")
		err = a.removeManagedResources(ctx, ex.Namespace, false)
	case leaves:
		err = a.removeManagedResources(ctx, ex.Namespace, true)
	default:
		if err = a.removePullSecrets(ctx, log, cluster); err == nil {
			err = a.removeManagedResource(ctx, ex.Namespace, ManagedResource, true)
		}
		if err == nil {
			err = a.retireServices(ctx, cluster)
		}
	}
	if err != nil {
		return err
	}
	return errors.Join(a.deleteObservability(ctx, ex.Namespace), a.deleteCertificates(ctx, log, cluster))
}

// ForceDelete requests the removal of the caches without waiting for it: the Shoot's control plane may be gone for
// good.
func (a *Actuator) ForceDelete(ctx context.Context, log logr.Logger, ex *extensionsv1alpha1.Extension) error {
	ctx, cancel := a.limited(ctx, ex)
	defer cancel()
	a.Unobserved.remove(ex.Namespace)
	return excerpt.Error(a.forceDelete(ctx, log, ex), problem.MaxError)
}

func (a *Actuator) forceDelete(ctx context.Context, log logr.Logger, ex *extensionsv1alpha1.Extension) error {
	cluster, err := extension.ReadCluster(ctx, a.Client, ex.Namespace)
	if err != nil {
		return fmt.Errorf("read Cluster: %w", err)
	}
	if err := a.removeManagedResources(ctx, ex.Namespace, false); err != nil {
		return err
	}
	return errors.Join(a.deleteObservability(ctx, ex.Namespace), a.deleteCertificates(ctx, log, cluster))
}

// Migrate releases the caches and leaves them running. It keeps the certificates, since gardenlet has yet to move the
// CA to the other seed, and removes retired Services, which the other seed does not know.
func (a *Actuator) Migrate(ctx context.Context, _ logr.Logger, ex *extensionsv1alpha1.Extension) error {
	ctx, cancel := a.limited(ctx, ex)
	defer cancel()
	a.Unobserved.remove(ex.Namespace)
	return excerpt.Error(a.migrate(ctx, ex), problem.MaxError)
}

func (a *Actuator) migrate(ctx context.Context, ex *extensionsv1alpha1.Extension) error {
	if err := a.dropRetired(ctx, ex.Namespace); err != nil {
		return err
	}
	if err := a.keepObjects(ctx, ex.Namespace); err != nil {
		return err
	}
	return errors.Join(a.removeManagedResources(ctx, ex.Namespace, true), a.deleteObservability(ctx, ex.Namespace))
}
