// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"fmt"
	"slices"
	"time"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/component/pullsecrets"
	"github.com/larder-project/larder/pkg/controller/readiness"
	"github.com/larder-project/larder/pkg/controller/shoot"
	"github.com/larder-project/larder/pkg/excerpt"
	"github.com/larder-project/larder/pkg/problem"
	"github.com/larder-project/larder/pkg/pullsecret"
)

// PullSecrets is what a look found about the controller of pull secrets.
type PullSecrets struct {
	// Problem is why its pod does not work.
	Problem readiness.Problem
	// Report is nil if it did not respond.
	Report *pullsecret.Report
	// Feed is the digest of the feed that it should follow.
	Feed string
}

// unsettled is how long pull secrets may take to follow a change before they are no longer reported as ready.
const unsettled = 2 * time.Minute

// PullSecretLooker looks at the controller of pull secrets in a Shoot.
type PullSecretLooker interface {
	LookAtPullSecrets(ctx context.Context, namespace string) (PullSecrets, error)
}

// LookAtPullSecrets implements PullSecretLooker.
func (s *Shoots) LookAtPullSecrets(ctx context.Context, namespace string) (PullSecrets, error) {
	managedResource := &metav1.PartialObjectMetadata{}
	managedResource.SetGroupVersionKind(resourcesv1alpha1.SchemeGroupVersion.WithKind("ManagedResource"))
	key := client.ObjectKey{Namespace: namespace, Name: pullsecrets.ManagedResource}
	if err := s.Client.Get(ctx, key, managedResource); client.IgnoreNotFound(err) != nil {
		return PullSecrets{}, fmt.Errorf("read ManagedResource %s: %w", pullsecrets.ManagedResource, err)
	}
	access, err := shoot.ConnectWithin(ctx, s.Client, namespace, shoot.MaxPod)
	if err != nil {
		return PullSecrets{}, err
	}
	defer access.Close()
	ctx, cancel := context.WithTimeout(ctx, objectsTimeout)
	defer cancel()
	pod := &corev1.Pod{}
	found, err := read(ctx, access, pullsecrets.PodName, pod)
	if err != nil {
		return PullSecrets{}, err
	}
	if !found {
		pod = nil
	}
	seen := PullSecrets{
		Problem: readiness.Pod(pullsecrets.PodName, pod, readiness.Volume{}, s.Now()),
		Feed:    managedResource.Labels[pullsecrets.FeedLabel],
	}
	if pod == nil || pod.Status.Phase != corev1.PodRunning {
		return seen, nil
	}
	report := &pullsecret.Report{}
	ctx, cancel = context.WithTimeout(ctx, s.ReportsTimeout)
	defer cancel()
	if err := get(ctx, access, pullsecrets.PodName, pullsecret.ReportPath, report); err == nil {
		seen.Report = report
	}
	return seen, nil
}

// lookAtPullSecrets returns what is to be written about pull secrets, nil if there are none or nothing is known.
func (r *Reconciler) lookAtPullSecrets(ctx context.Context, ex *extensionsv1alpha1.Extension, cluster *extensionscontroller.Cluster, status *registry.RegistryStatus, look *spans) observation {
	if r.PullSecrets == nil || !slices.ContainsFunc(status.Caches, func(cache registry.RegistryCacheStatus) bool { return cache.PullSecret != nil }) {
		return nil
	}
	if extensionscontroller.IsHibernationEnabled(cluster) {
		return unknownPullSecret(readiness.Hibernated, "The Shoot is hibernated. Its pull secrets stay as they are until it wakes up.")
	}
	seen, err := r.PullSecrets.LookAtPullSecrets(ctx, ex.Namespace)
	if err == nil {
		return observedPullSecrets(seen, look)
	}
	logf.FromContext(ctx).Info("Failed to look at the controller of pull secrets", "error", excerpt.Line(err.Error(), problem.MaxLength))
	switch {
	case look.lasted("", "silence of pull secrets") < silence:
		return nil
	case shoot.IsUnresponsive(err):
		return unknownPullSecret(readiness.ShootUnreachable, "The API server of the Shoot has not responded for a while. See the other conditions of the Shoot.")
	}
	return unknownPullSecret(readiness.NotObserved, "The controller of pull secrets could not be observed for a while. The log of the extension shows the error to the operator.")
}

// observedPullSecrets returns what follows from a look. A pull secret that is being changed keeps its condition for a
// while, and longer if its controller does not respond.
func observedPullSecrets(seen PullSecrets, look *spans) observation {
	return func(cache *registry.RegistryCacheStatus, now metav1.Time) {
		if cache.PullSecret == nil {
			return
		}
		condition := readiness.PullSecret(*cache, seen.Problem, seen.Report, seen.Feed)
		if was := pullSecretReady(*cache); condition.Status == metav1.ConditionUnknown && was != nil && was.Status != metav1.ConditionUnknown &&
			len(cache.PullSecret.SecretNames) > 0 {
			patience := unsettled
			if seen.Report == nil {
				patience = silence
			}
			if look.lasted(cache.Upstream, "pull secret "+condition.Reason) < patience {
				return
			}
		}
		setReady(cache, condition, now)
	}
}

// unknownPullSecret returns that pull secrets cannot be observed.
func unknownPullSecret(reason readiness.Reason, message string) observation {
	return func(cache *registry.RegistryCacheStatus, now metav1.Time) {
		if cache.PullSecret != nil {
			setReady(cache, readiness.PullSecretUnknown(reason, message), now)
		}
	}
}

// both returns an observation of two, each of which may be nil.
func both(first, second observation) observation {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return func(cache *registry.RegistryCacheStatus, now metav1.Time) {
		first(cache, now)
		second(cache, now)
	}
}

// isPullSecretOutdated reports whether the upstream has accepted a credential that the pull secret of its cache does
// not have.
func isPullSecretOutdated(cache registry.RegistryCacheStatus) bool {
	return cache.PullSecret != nil && slices.ContainsFunc(credentialsOf(cache), func(c credential) bool {
		return c.status.State == registry.CredentialsActive && !slices.Contains(cache.PullSecret.SecretNames, c.status.SecretName)
	})
}

// pullSecretReady returns the condition of the pull secret of a cache, nil if there is none.
func pullSecretReady(cache registry.RegistryCacheStatus) *metav1.Condition {
	return meta.FindStatusCondition(cache.Conditions, registry.ConditionPullSecretReady)
}

// pullSecretNotes returns the change of a cache's pull secret.
func pullSecretNotes(before, after registry.RegistryCacheStatus) []note {
	was, is := pullSecretReady(before), pullSecretReady(after)
	if is == nil || is.Status == metav1.ConditionUnknown || was != nil && was.Reason == is.Reason {
		return nil
	}
	if is.Status == metav1.ConditionTrue {
		if was == nil || was.Status == metav1.ConditionUnknown {
			return nil // The owner expects nothing else of a new pull secret.
		}
		return []note{{after.Upstream, corev1.EventTypeNormal, is.Reason, "CheckPullSecret", is.Message}}
	}
	return []note{{after.Upstream, corev1.EventTypeWarning, is.Reason, "CheckPullSecret", describePullSecret(after)}}
}

func describePullSecret(cache registry.RegistryCacheStatus) string {
	return fmt.Sprintf("Registry cache for %s: %s", cache.Upstream, pullSecretReady(cache).Message)
}
