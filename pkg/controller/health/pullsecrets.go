// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"fmt"
	"slices"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
}

// PullSecretLooker looks at the controller of pull secrets in a Shoot.
type PullSecretLooker interface {
	LookAtPullSecrets(ctx context.Context, namespace string) (PullSecrets, error)
}

// LookAtPullSecrets implements PullSecretLooker.
func (s *Shoots) LookAtPullSecrets(ctx context.Context, namespace string) (PullSecrets, error) {
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
	seen := PullSecrets{Problem: readiness.Pod(pullsecrets.PodName, pod, readiness.Volume{}, s.Now())}
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
func (r *Reconciler) lookAtPullSecrets(ctx context.Context, namespace string, cluster *extensionscontroller.Cluster, status *registry.RegistryStatus) observation {
	if r.PullSecrets == nil || !slices.ContainsFunc(status.Caches, func(cache registry.RegistryCacheStatus) bool { return cache.PullSecret != nil }) ||
		extensionscontroller.IsHibernationEnabled(cluster) {
		return nil
	}
	seen, err := r.PullSecrets.LookAtPullSecrets(ctx, namespace)
	if err != nil {
		logf.FromContext(ctx).Info("Failed to look at the controller of pull secrets", "error", excerpt.Line(err.Error(), problem.MaxLength))
		return nil
	}
	return func(cache *registry.RegistryCacheStatus, now metav1.Time) {
		if cache.PullSecret == nil {
			return
		}
		if condition, ok := readiness.PullSecret(*cache.PullSecret, seen.Problem, seen.Report); ok {
			setReady(cache, condition, now)
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
