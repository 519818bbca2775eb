// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/controller/credentialstate"
	"github.com/larder-project/larder/pkg/controller/extension"
	"github.com/larder-project/larder/pkg/controller/readiness"
	"github.com/larder-project/larder/pkg/controller/shoot"
	"github.com/larder-project/larder/pkg/excerpt"
	"github.com/larder-project/larder/pkg/problem"
	"github.com/larder-project/larder/pkg/upstream"
)

const (
	// soon is the interval of looks while an owner may be waiting for a rotation, for eager after its start.
	soon  = 2 * time.Second
	eager = 5 * time.Minute
	// later is the interval otherwise.
	later = time.Minute
	// share bounds the part of the time that is spent on one Shoot: one in share. So a Shoot that is slow to respond is
	// looked at less often, and many of them do not delay the looks at others.
	share = 20
	// silence is how long the API server of a Shoot or a replica with a problem may not respond before caches become
	// Unknown. Until then, a restart of the API server is more likely than a change of the caches.
	silence = 10 * time.Minute
	// settle is the number of looks in a row at which a cache must differ from its condition Ready before that changes.
	// What comes and goes within minutes, such as an outage of a part of an upstream that many Shoots use, must not cause
	// writes.
	settle = 3
)

// Looker looks at the caches with the given names in a Shoot, and returns what it finds by these names.
type Looker interface {
	Look(ctx context.Context, namespace string, caches []string) (map[string]Cache, error)
}

// Reconciler follows the caches of Extensions. It must not be copied.
type Reconciler struct {
	// Client is an uncached client for the seed.
	Client client.Client
	// Reader reads from the cache of the manager: a look needs no newer Extension, since it is written with optimistic
	// locking.
	Reader client.Reader
	// Codec decodes and encodes the provider status.
	Codec *codec.Codec
	// ManagedResource is the name of the ManagedResource that deploys the caches.
	ManagedResource string
	// Shoots looks at caches.
	Shoots Looker
	// PullSecrets looks at the controller of pull secrets. Nil means that it is not looked at.
	PullSecrets PullSecretLooker
	// Recorder records state changes.
	Recorder events.EventRecorder
	// Clock dates state changes.
	Clock clock.Clock

	memory memory
	tokens tokenLooks
}

// Reconcile looks at the caches of an Extension once.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	ex := &extensionsv1alpha1.Extension{}
	err := r.Reader.Get(ctx, request.NamespacedName, ex)
	if apierrors.IsNotFound(err) || ex.DeletionTimestamp != nil || migrates(ex) {
		r.memory.end(request.NamespacedName, nil)
		r.tokens.end(request.NamespacedName)
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read Extension: %w", err)
	}
	status, err := r.Codec.DecodeStatus(ex.Status.ProviderStatus)
	if errors.Is(err, codec.ErrMissing) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("decode provider status: %w", err)
	}
	cluster, err := extensionscontroller.GetCluster(ctx, r.Reader, ex.Namespace)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read Cluster: %w", err)
	}
	if cluster.Shoot == nil || cluster.Shoot.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}

	started := r.Clock.Now()
	look := r.memory.begin(request.NamespacedName, started)
	observe := both(r.look(ctx, ex, cluster, status, look), r.lookAtPullSecrets(ctx, ex, cluster, status, look))
	err = r.update(ctx, ex, status, observe)
	r.memory.end(request.NamespacedName, look)
	pause := share * r.Clock.Since(started)
	switch {
	case apierrors.IsConflict(err):
		return reconcile.Result{RequeueAfter: max(soon, pause)}, nil
	case err != nil && pause > extension.MaxBackOff:
		// The rate limiter would retry earlier.
		logf.FromContext(ctx).Error(err, "Failed to update the status, retrying later", "after", pause)
		return reconcile.Result{RequeueAfter: pause}, nil
	case err != nil:
		return reconcile.Result{}, err
	}
	if err := r.followTokens(ctx, ex, cluster); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: max(r.interval(status), pause)}, nil
}

// observation updates the status of a cache. It is nil if nothing was observed.
type observation func(cache *registry.RegistryCacheStatus, now metav1.Time)

// look returns what is to be written about the caches.
func (r *Reconciler) look(ctx context.Context, ex *extensionsv1alpha1.Extension, cluster *extensionscontroller.Cluster, status *registry.RegistryStatus, look *spans) observation {
	if extensionscontroller.IsHibernationEnabled(cluster) {
		return unknown(readiness.Hibernated, "The Shoot is hibernated. The cache returns with it.")
	}
	names := make([]string, 0, len(status.Caches))
	for _, cache := range status.Caches {
		names = append(names, resourceName(cache))
	}
	found, err := r.Shoots.Look(ctx, ex.Namespace, names)
	if err == nil {
		logUnread(ctx, found)
		shared, err := r.sharedRegistries(ctx, ex.Namespace, status)
		if err != nil {
			logf.FromContext(ctx).Error(err, "Failed to read how nodes use the caches")
			return nil
		}
		return observed(found, shared, look)
	}
	// Do not retry at once: an API server that does not respond rarely recovers within seconds. The error may quote it.
	logf.FromContext(ctx).Info("Failed to look at the caches", "error", excerpt.Line(err.Error(), problem.MaxLength))
	switch {
	case look.lasted("", "silence") < silence:
		return nil
	case shoot.IsUnresponsive(err):
		return unknown(readiness.ShootUnreachable, "The API server of the Shoot has not responded for a while. See the other conditions of the Shoot.")
	}
	return unknown(readiness.NotObserved, unreadable(err))
}

// logUnread logs the caches that could not be read, by one entry.
func logUnread(ctx context.Context, found map[string]Cache) {
	unread, example := 0, error(nil)
	for _, cache := range found {
		if cache.Err != nil {
			unread, example = unread+1, cache.Err
		}
	}
	if unread > 0 {
		logf.FromContext(ctx).Info("Failed to look at some caches", "caches", unread, "example", excerpt.Line(example.Error(), problem.MaxLength))
	}
}

// unreadable explains to the owner why the objects of a cache cannot be read. It does not quote the error, which may
// change with each attempt.
func unreadable(err error) string {
	if errors.Is(err, shoot.ErrTooLong) {
		return "An object of the cache is too large to be read. Remove the annotations that were added to its StatefulSet, pods and claims in kube-system."
	}
	return "The objects of the cache could not be read for a while. The log of the extension shows the error to the operator."
}

// observed returns what follows from a look. Shared are the upstreams that nodes configure together with hosts of
// others.
func observed(found map[string]Cache, shared sets.Set[string], look *spans) observation {
	return func(cache *registry.RegistryCacheStatus, now metav1.Time) {
		seen := found[resourceName(*cache)]
		if seen.Err != nil {
			if look.lasted(cache.Upstream, "unread") >= silence {
				setReady(cache, readiness.Unknown(readiness.NotObserved, unreadable(seen.Err)), now)
			}
			return
		}
		if cache.Credentials != nil {
			cache.Credentials = new(credentialstate.Observe(*cache.Credentials, seen.running(nil), now))
		}
		cache.RepositoryCredentials = slices.Clone(cache.RepositoryCredentials)
		for i := range cache.RepositoryCredentials {
			status := &cache.RepositoryCredentials[i]
			status.Credentials = credentialstate.Observe(status.Credentials, seen.running(status.Repositories), now)
		}
		condition := readiness.Of(seen.problems(), cmp.Or(credentialProblem(*cache), nodesProblem(*cache, shared)))
		if condition.Status == metav1.ConditionTrue && seen.silent() && wasReported(*cache) {
			if look.lasted(cache.Upstream, "silence") < silence {
				return
			}
			condition = readiness.Unknown(readiness.ReportsMissing, "The pods of the cache are ready, but have not reported for a while whether an earlier problem has ended. "+
				"The API server must be able to reach their port 5001.")
		}
		if settled(ready(*cache), condition, cache.Upstream, look) {
			setReady(cache, condition, now)
		}
	}
}

// settled reports whether a condition is to be written. One that differs from the previous one must last. A change of the
// status need not always have the same reason: a cache that fails for changing reasons fails.
func settled(was *metav1.Condition, is metav1.Condition, upstream string, look *spans) bool {
	switch {
	case was == nil, was.Status == metav1.ConditionUnknown, is.Status == metav1.ConditionUnknown:
		return true
	case !readiness.Reason(was.Reason).MayPass(), !readiness.Reason(is.Reason).MayPass():
		return true // It waits for the owner, or the owner has just solved it.
	case is.Status == metav1.ConditionTrue && was.Status == metav1.ConditionFalse && !readiness.Reason(was.Reason).IsReported():
		return true // The pods of a new cache have become ready. They cannot flap, because becoming not ready takes longer.
	case was.Status != is.Status:
		return look.looks(upstream, string(is.Status)) >= settle
	case was.Reason != is.Reason, was.Message != is.Message:
		return look.looks(upstream, is.Reason+" "+is.Message) >= settle
	}
	return true
}

// wasReported reports whether a problem was reported by replicas. It has not ended only because they do not respond.
func wasReported(cache registry.RegistryCacheStatus) bool {
	before := ready(cache)
	return before != nil && (readiness.Reason(before.Reason).IsReported() || before.Reason == string(readiness.ReportsMissing))
}

// unknown returns that the caches cannot be observed. What is known about their credentials stays.
func unknown(reason readiness.Reason, message string) observation {
	return func(cache *registry.RegistryCacheStatus, now metav1.Time) {
		setReady(cache, readiness.Unknown(reason, message), now)
	}
}

func setReady(cache *registry.RegistryCacheStatus, condition metav1.Condition, now metav1.Time) {
	condition.LastTransitionTime = now // It stays as it was if the status does.
	cache.Conditions = slices.Clone(cache.Conditions)
	meta.SetStatusCondition(&cache.Conditions, condition)
}

func resourceName(cache registry.RegistryCacheStatus) string {
	return upstream.Upstream(cache.Upstream).ResourceName()
}

// migrates reports whether the Shoot is leaving or has left this seed.
func migrates(ex *extensionsv1alpha1.Extension) bool {
	return ex.Annotations[v1beta1constants.GardenerOperation] == v1beta1constants.GardenerOperationMigrate ||
		ex.Status.LastOperation != nil && ex.Status.LastOperation.Type == gardencorev1beta1.LastOperationTypeMigrate
}

// interval returns the time until the next look. It varies, so that the Shoots that are looked at when the controller
// starts spread over time. A start of a rotation in the future is as old as one in the past: a clock was set back.
func (r *Reconciler) interval(status *registry.RegistryStatus) time.Duration {
	for _, cache := range status.Caches {
		for _, credential := range credentialsOf(cache) {
			if credentialstate.InProgress(credential.status) && r.Clock.Since(credential.status.Since.Time).Abs() < eager {
				return soon
			}
		}
	}
	return later - later/10 + rand.N(later/5) //nolint:gosec // not a secret
}

// update writes what has changed, and nothing otherwise. It fails with a conflict if package cache has written the
// status since it was read: package cache can deploy another credential meanwhile.
func (r *Reconciler) update(ctx context.Context, ex *extensionsv1alpha1.Extension, status *registry.RegistryStatus, observe observation) error {
	if observe == nil {
		return nil
	}
	changed, surplus, outdated := false, false, false
	before, now := slices.Clone(status.Caches), metav1.NewTime(r.Clock.Now())
	for i := range status.Caches {
		cache := &status.Caches[i]
		observe(cache, now)
		changed = changed || !equal(before[i], *cache)
		outdated = outdated || isPullSecretOutdated(*cache)
		surplus = surplus || slices.ContainsFunc(credentialsOf(*cache), func(s credential) bool { return s.status.PreviousSecretName != "" })
	}
	if changed {
		if err := r.patchStatus(ctx, ex, status); err != nil {
			return err
		}
		r.record(ctx, ex, before, status.Caches)
	}
	if surplus {
		return r.requestRemoval(ctx, ex)
	}
	// A failed reconciliation is repeated anyway.
	if outdated && ex.Status.LastError == nil {
		if err := r.requestReconciliation(ctx, ex); err != nil {
			return fmt.Errorf("request update of pull secrets: %w", err)
		}
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

func equal(a, b registry.RegistryCacheStatus) bool {
	return slices.EqualFunc(credentialsOf(a), credentialsOf(b), equalCredentials) && slices.Equal(a.Conditions, b.Conditions)
}

func equalCredentials(x, y credential) bool {
	a, b := x.status, y.status
	return x.name == y.name && a.SecretName == b.SecretName && a.PendingSecretName == b.PendingSecretName &&
		a.PreviousSecretName == b.PreviousSecretName && a.State == b.State && a.Message == b.Message
}

// requestRemoval has package cache remove the previous credentials. The request is repeated until the status no longer
// names them.
func (r *Reconciler) requestRemoval(ctx context.Context, ex *extensionsv1alpha1.Extension) error {
	if err := r.requestReconciliation(ctx, ex); err != nil {
		return fmt.Errorf("request removal of previous credentials: %w", err)
	}
	return nil
}

// requestReconciliation has package cache reconcile an Extension that it does not reconcile already.
func (r *Reconciler) requestReconciliation(ctx context.Context, ex *extensionsv1alpha1.Extension) error {
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
	return client.IgnoreNotFound(err)
}
