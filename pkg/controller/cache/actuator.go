// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	gardenerimagevector "github.com/gardener/gardener/pkg/utils/imagevector"
	"github.com/go-logr/logr"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/controller/excerpt"
	"github.com/larder-project/larder/pkg/controller/shoot"
)

// Actuator does what an Extension of type registry-cache asks for.
type Actuator struct {
	// Client is a client for the seed. It has no cache: an Extension is
	// reconciled rarely, and then on the strength of what there is.
	Client client.Client
	// Codec decodes the provider configuration and encodes the provider status.
	Codec *codec.Codec
	// Images names the image of the cache server.
	Images gardenerimagevector.ImageVector
	// Clock tells which certificates have to be renewed.
	Clock clock.Clock
	// CopyTimeout is how long the Secrets that a Shoot refers to may take to be copied to the seed.
	CopyTimeout time.Duration
	// RetryTimeout is how long an Extension whose last reconciliation failed may take.
	RetryTimeout time.Duration
}

// Reconcile deploys the caches. It does not wait until they run: a Shoot that
// is being created has no nodes before this is done. What is wrong with one cache
// is no reason to neglect the others: it is reported in the end.
func (a *Actuator) Reconcile(ctx context.Context, log logr.Logger, ex *extensionsv1alpha1.Extension) error {
	ctx, cancel := a.limited(ctx, ex)
	defer cancel()
	return excerpt.Error(a.reconcile(ctx, log, ex), maxError)
}

func (a *Actuator) reconcile(ctx context.Context, log logr.Logger, ex *extensionsv1alpha1.Extension) error {
	cluster, err := extensionscontroller.GetCluster(ctx, a.Client, ex.Namespace)
	if err != nil {
		return fmt.Errorf("could not read the Cluster: %w", err)
	}
	if extensionscontroller.IsHibernationEnabled(cluster) {
		log.Info("Shoot is hibernated, its caches stay as they are until it wakes up")
		return nil
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
	addresses, err := serviceAddresses(ctx, access, caches)
	if err != nil {
		return err
	}
	if caches, err = a.stageCredentials(ctx, access, ex, caches); err != nil {
		return err
	}
	request := certificateRequest{cluster: cluster, caches: caches, addresses: addresses}
	certificates, err := a.issueCertificates(ctx, log, request)
	if err != nil {
		return err
	}
	caches, refusals, err := expandClaims(ctx, log, access, caches)
	if err != nil {
		return err
	}
	if err := a.deployCaches(ctx, ex.Namespace, certificates.addTo(caches)); err != nil {
		return err
	}
	if err := a.replaceOutgrownStatefulSets(ctx, log, access, ex.Namespace, caches); err != nil {
		return err
	}
	if err := deleteSurplusClaims(ctx, log, access, caches); err != nil {
		return err
	}
	if certificates, err = a.dropOldCA(ctx, log, request, certificates); err != nil {
		return err
	}
	if err := a.updateStatus(ctx, ex, caches, addresses, certificates.caBundleName); err != nil {
		return err
	}
	if err := certificates.deleteUnused(ctx); err != nil {
		return err
	}
	return joined(append(problems, refusals...))
}

// limited limits the time for an Extension that was waited for in vain before,
// lest a few such Extensions keep all others waiting. It is tried again all the same.
func (a *Actuator) limited(ctx context.Context, ex *extensionsv1alpha1.Extension) (context.Context, context.CancelFunc) {
	if ex.Status.LastError == nil {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, a.RetryTimeout)
}

// Restore is Reconcile: all that has to survive a change of seed is the CA, and gardenlet carries that.
func (a *Actuator) Restore(ctx context.Context, log logr.Logger, ex *extensionsv1alpha1.Extension) error {
	return a.Reconcile(ctx, log, ex)
}

// Delete removes the caches with everything that belongs to them, apart from
// Services that nodes may still ask. While the Shoot is hibernated there is
// nobody who could: then gardener-resource-manager does it on waking up.
func (a *Actuator) Delete(ctx context.Context, log logr.Logger, ex *extensionsv1alpha1.Extension) error {
	ctx, cancel := a.limited(ctx, ex)
	defer cancel()
	return excerpt.Error(a.delete(ctx, log, ex), maxError)
}

func (a *Actuator) delete(ctx context.Context, log logr.Logger, ex *extensionsv1alpha1.Extension) error {
	cluster, err := extensionscontroller.GetCluster(ctx, a.Client, ex.Namespace)
	if err != nil {
		return fmt.Errorf("could not read the Cluster: %w", err)
	}
	leaves := cluster.Shoot.DeletionTimestamp != nil
	hibernated := extensionscontroller.IsHibernated(cluster) && !leaves
	switch {
	case hibernated:
		log.Info("Shoot is hibernated, its caches are removed when it wakes up")
		err = a.removeManagedResources(ctx, ex.Namespace, false)
	case leaves:
		err = a.removeManagedResources(ctx, ex.Namespace, true)
	default:
		if err = a.removeManagedResource(ctx, ex.Namespace, ManagedResource, true); err == nil {
			err = a.retireServices(ctx, cluster)
		}
	}
	if err != nil {
		return err
	}
	return a.deleteCertificates(ctx, log, cluster)
}

// ForceDelete asks for the removal of the caches and waits for nothing: the
// Shoot's control plane may be gone for good.
func (a *Actuator) ForceDelete(ctx context.Context, log logr.Logger, ex *extensionsv1alpha1.Extension) error {
	cluster, err := extensionscontroller.GetCluster(ctx, a.Client, ex.Namespace)
	if err != nil {
		return fmt.Errorf("could not read the Cluster: %w", err)
	}
	if err := a.removeManagedResources(ctx, ex.Namespace, false); err != nil {
		return err
	}
	return a.deleteCertificates(ctx, log, cluster)
}

// Migrate lets go of the caches and leaves them running. The certificates stay:
// gardenlet still has to carry the CA to the other seed. Services that have
// retired go: the other seed does not know of them.
func (a *Actuator) Migrate(ctx context.Context, _ logr.Logger, ex *extensionsv1alpha1.Extension) error {
	if err := a.dropRetired(ctx, ex.Namespace); err != nil {
		return err
	}
	if err := a.keepObjects(ctx, ex.Namespace); err != nil {
		return err
	}
	return a.removeManagedResources(ctx, ex.Namespace, true)
}

// configurationProblem is an error that stays until the owner changes the Shoot:
// gardenlet lets the Shoot fail and waits for that.
func configurationProblem(err error) error {
	return v1beta1helper.NewErrorWithCodes(err, gardencorev1beta1.ErrorConfigurationProblem)
}

// retryableProblem is an error that is mended elsewhere than in the Shoot, so
// that it is tried again.
func retryableProblem(err error) error {
	return v1beta1helper.NewErrorWithCodes(err, gardencorev1beta1.ErrorRetryableConfigurationProblem)
}

const (
	// maxError is how long the error of an Extension can be, and maxProblem what is said about one cache in it. Both can
	// have text in them that the Shoot's admission webhooks write.
	maxError   = 16 << 10
	maxProblem = 1 << 10
)

// joined is one error of many, with the codes of all: Gardener takes those of one error only.
func joined(problems []error) error {
	if len(problems) == 0 {
		return nil
	}
	var codes []gardencorev1beta1.ErrorCode
	short := make([]error, 0, len(problems))
	for _, problem := range problems {
		for _, code := range v1beta1helper.ExtractErrorCodes(problem) {
			if !slices.Contains(codes, code) {
				codes = append(codes, code)
			}
		}
		short = append(short, excerpt.Error(problem, maxProblem))
	}
	return v1beta1helper.NewErrorWithCodes(errors.Join(short...), codes...)
}
