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
	if err := get(ctx, access, pullsecrets.PodName, pullsecret.ReportPath, nil, report); err == nil {
		seen.Report = report
	}
	return seen, nil
}

// lookAtPullSecrets returns what is to be written about pull secrets, nil if there are none or nothing is known.
func (r *Reconciler) lookAtPullSecrets(ctx context.Context, ex *extensionsv1alpha1.Extension, cluster *extensionscontroller.Cluster, status *registry.RegistryStatus, look *spans) observation {
	if r.PullSecrets == nil || !slices.ContainsFunc(status.Caches, hasKeptSecrets) {
		return nil
	}
	if extensionscontroller.IsHibernationEnabled(cluster) {
		return unknownPullSecret(readiness.Hibernated, "The Shoot is hibernated. The Secrets in its namespaces stay as they are until it wakes up.")
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

// observedPullSecrets returns what follows from a look.
func observedPullSecrets(seen PullSecrets, look *spans) observation {
	return func(cache *registry.RegistryCacheStatus, now metav1.Time) {
		if cache.PullSecret != nil {
			condition := readiness.PullSecret(*cache, seen.Problem, seen.Report, seen.Feed)
			if len(cache.PullSecret.SecretNames) == 0 || !isSettling(*cache, condition, seen, look) {
				setReady(cache, condition, now)
			}
		}
		if len(cache.Accounts) > 0 {
			condition := readiness.Accounts(cache.Accounts, seen.Problem, seen.Report, seen.Feed)
			if !isSettling(*cache, condition, seen, look) {
				setReady(cache, condition, now)
			}
		}
	}
}

// isSettling reports whether the condition of a cache does not change yet: it stays for a while when what it describes
// is being changed, and longer if the controller does not respond.
func isSettling(cache registry.RegistryCacheStatus, next metav1.Condition, seen PullSecrets, look *spans) bool {
	was := meta.FindStatusCondition(cache.Conditions, next.Type)
	if next.Status != metav1.ConditionUnknown || was == nil || was.Status == metav1.ConditionUnknown {
		return false
	}
	patience := unsettled
	if seen.Report == nil {
		patience = silence
	}
	return look.lasted(cache.Upstream, next.Type+" "+next.Reason) < patience
}

// unknownPullSecret returns that pull secrets and the Secrets of accounts cannot be observed.
func unknownPullSecret(reason readiness.Reason, message string) observation {
	return func(cache *registry.RegistryCacheStatus, now metav1.Time) {
		if cache.PullSecret != nil {
			setReady(cache, readiness.PullSecretUnknown(reason, message), now)
		}
		if len(cache.Accounts) > 0 {
			setReady(cache, readiness.AccountsUnknown(reason, message), now)
		}
	}
}

// hasKeptSecrets reports whether a cache has Secrets in namespaces of the Shoot.
func hasKeptSecrets(cache registry.RegistryCacheStatus) bool {
	return cache.PullSecret != nil || len(cache.Accounts) > 0
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

// keptConditions are the conditions about Secrets in namespaces of the Shoot, with the actions of their events.
var keptConditions = []struct{ kind, action string }{
	{registry.ConditionPullSecretReady, "CheckPullSecret"},
	{registry.ConditionAccountsReady, "CheckAccounts"},
}

// keptNotes returns the changes of a cache's Secrets in namespaces of the Shoot.
func keptNotes(before, after registry.RegistryCacheStatus) []note {
	var notes []note
	for _, condition := range keptConditions {
		was, is := meta.FindStatusCondition(before.Conditions, condition.kind), meta.FindStatusCondition(after.Conditions, condition.kind)
		switch {
		case is == nil || is.Status == metav1.ConditionUnknown || was != nil && was.Reason == is.Reason:
		case is.Status == metav1.ConditionFalse:
			notes = append(notes, note{after.Upstream, corev1.EventTypeWarning, is.Reason, condition.action, fmt.Sprintf("Registry cache for %s: %s", after.Upstream, is.Message)})
		case was == nil || was.Status == metav1.ConditionUnknown:
			// The owner expects nothing else of a new Secret.
		default:
			notes = append(notes, note{after.Upstream, corev1.EventTypeNormal, is.Reason, condition.action, is.Message})
		}
	}
	return notes
}
