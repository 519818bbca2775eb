// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/controller/credentialstate"
	"github.com/larder-project/larder/pkg/excerpt"
	"github.com/larder-project/larder/pkg/upstream"
)

const (
	// soon is the interval of reconciliations while an owner may be waiting for a change, for eager after its start.
	soon  = 2 * time.Second
	eager = 5 * time.Minute
	// later is the interval otherwise.
	later = time.Minute

	// maxNote is the length of the longest note of an event that the API server allows.
	maxNote = 1024
)

// ReplicaReader returns the replicas of the caches with the given names in a Shoot, by these names.
type ReplicaReader interface {
	Replicas(ctx context.Context, namespace string, caches []string) (map[string]credentialstate.Replicas, error)
}

// Reconciler follows the credentials of the caches of one Extension.
type Reconciler struct {
	// Client is an uncached client for the seed.
	Client client.Client
	// Codec decodes and encodes the provider status.
	Codec *codec.Codec
	// Shoots reads the replicas.
	Shoots ReplicaReader
	// Recorder records state changes.
	Recorder events.EventRecorder
	// Clock dates state changes.
	Clock clock.Clock
}

// Reconcile updates the state of the credentials once.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	ex := &extensionsv1alpha1.Extension{}
	if err := r.Client.Get(ctx, request.NamespacedName, ex); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if ex.DeletionTimestamp != nil || migrates(ex) {
		return reconcile.Result{}, nil
	}
	status, err := r.Codec.DecodeStatus(ex.Status.ProviderStatus)
	if errors.Is(err, codec.ErrMissing) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("decode provider status: %w", err)
	}
	caches := withCredentials(status)
	if len(caches) == 0 {
		return reconcile.Result{}, nil
	}
	cluster, err := extensionscontroller.GetCluster(ctx, r.Client, ex.Namespace)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read Cluster: %w", err)
	}
	if extensionscontroller.IsHibernationEnabled(cluster) {
		return reconcile.Result{}, nil
	}

	replicas, err := r.Shoots.Replicas(ctx, ex.Namespace, caches)
	if err != nil {
		return reconcile.Result{}, err
	}
	if err := r.update(ctx, ex, status, replicas); apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: soon}, nil
	} else if err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: r.interval(status)}, nil
}

// migrates reports whether the Shoot is leaving or has left this seed.
func migrates(ex *extensionsv1alpha1.Extension) bool {
	return ex.Annotations[v1beta1constants.GardenerOperation] == v1beta1constants.GardenerOperationMigrate ||
		ex.Status.LastOperation != nil && ex.Status.LastOperation.Type == gardencorev1beta1.LastOperationTypeMigrate
}

// withCredentials returns the names of the caches that have credentials.
func withCredentials(status *registry.RegistryStatus) []string {
	names := make([]string, 0, len(status.Caches))
	for _, cache := range status.Caches {
		if cache.Credentials != nil {
			names = append(names, upstream.Upstream(cache.Upstream).ResourceName())
		}
	}
	return names
}

// interval returns the time until the next reconciliation.
func (r *Reconciler) interval(status *registry.RegistryStatus) time.Duration {
	for _, cache := range status.Caches {
		if cache.Credentials != nil && credentialstate.InProgress(cache.Credentials) && r.Clock.Since(cache.Credentials.Since.Time) < eager {
			return soon
		}
	}
	return later
}

// update writes the states that follow from the replicas. It fails with a conflict if package cache has written the
// status in the meantime, whose word on the wanted credentials counts.
func (r *Reconciler) update(ctx context.Context, ex *extensionsv1alpha1.Extension, status *registry.RegistryStatus, replicas map[string]credentialstate.Replicas) error {
	var transitions []registry.RegistryCacheStatus
	changed, surplus := false, false
	for i := range status.Caches {
		cache := &status.Caches[i]
		if cache.Credentials == nil {
			continue
		}
		before := *cache.Credentials
		next := credentialstate.Observe(before, replicas[upstream.Upstream(cache.Upstream).ResourceName()], metav1.NewTime(r.Clock.Now()))
		cache.Credentials = &next
		changed = changed || !equal(before, next)
		if next.State != before.State {
			transitions = append(transitions, *cache)
		}
		surplus = surplus || next.PreviousSecretName != ""
	}
	if changed {
		if err := r.patchStatus(ctx, ex, status); err != nil {
			return err
		}
		for _, cache := range transitions {
			r.record(ctx, ex, cache)
		}
	}
	if surplus {
		return r.requestRemoval(ctx, ex)
	}
	return nil
}

func (r *Reconciler) patchStatus(ctx context.Context, ex *extensionsv1alpha1.Extension, status *registry.RegistryStatus) error {
	encoded, err := r.Codec.EncodeStatus(status)
	if err != nil {
		return err
	}
	patch := client.MergeFromWithOptions(ex.DeepCopy(), client.MergeFromWithOptimisticLock{})
	ex.Status.ProviderStatus = encoded
	if err := r.Client.Status().Patch(ctx, ex, patch); err != nil {
		return fmt.Errorf("update provider status: %w", err)
	}
	return nil
}

func equal(a, b registry.CredentialsStatus) bool {
	return a.SecretName == b.SecretName && a.PendingSecretName == b.PendingSecretName && a.PreviousSecretName == b.PreviousSecretName && a.State == b.State && a.Message == b.Message
}

func (r *Reconciler) record(ctx context.Context, ex *extensionsv1alpha1.Extension, cache registry.RegistryCacheStatus) {
	kind := corev1.EventTypeNormal
	if state := cache.Credentials.State; state == registry.CredentialsRejected || state == registry.CredentialsMissing {
		kind = corev1.EventTypeWarning
	}
	message := excerpt.Line(describe(cache), maxNote)
	logf.FromContext(ctx).Info("Credentials state changed", "upstream", cache.Upstream, "state", cache.Credentials.State,
		"secretName", cache.Credentials.SecretName, "pendingSecretName", cache.Credentials.PendingSecretName)
	r.Recorder.Eventf(ex, nil, kind, "Credentials"+string(cache.Credentials.State), "CheckCredentials", "%s", message)
}

// requestRemoval has package cache remove the previous credentials. The request is repeated until the status no longer
// names them.
func (r *Reconciler) requestRemoval(ctx context.Context, ex *extensionsv1alpha1.Extension) error {
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		if err := r.Client.Get(ctx, client.ObjectKeyFromObject(ex), ex); err != nil {
			return err
		}
		if _, busy := ex.Annotations[v1beta1constants.GardenerOperation]; busy {
			return nil
		}
		patch := client.MergeFromWithOptions(ex.DeepCopy(), client.MergeFromWithOptimisticLock{})
		metav1.SetMetaDataAnnotation(&ex.ObjectMeta, v1beta1constants.GardenerOperation, v1beta1constants.GardenerOperationReconcile)
		return r.Client.Patch(ctx, ex, patch)
	})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("request removal of previous credentials: %w", err)
	}
	return nil
}
