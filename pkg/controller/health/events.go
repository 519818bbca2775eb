// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"fmt"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/reference"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/controller/readiness"
	"github.com/larder-project/larder/pkg/excerpt"
	"github.com/larder-project/larder/pkg/problem"
)

// maxEvents bounds the events of a look, since all caches of a Shoot can change at once, as often as their owner wants.
const maxEvents = 10

// note is an event about a cache or one of its credentials, whose name is the subject.
type note struct {
	subject, kind, reason, action, text string
}

// record records the changes of caches as events and in the log.
func (r *Reconciler) record(ctx context.Context, ex *extensionsv1alpha1.Extension, before, after []registry.RegistryCacheStatus) {
	var changes []note
	for i := range after {
		changes = append(changes, notes(before[i], after[i])...)
	}
	log := logf.FromContext(ctx)
	if skipped := len(changes) - maxEvents; skipped > 0 {
		log.Info("Skipping events about further caches", "skipped", skipped)
		changes = changes[:maxEvents]
	}
	for _, change := range changes {
		text := excerpt.Line(change.text, problem.MaxNote)
		log.Info("State of cache changed", "subject", change.subject, "reason", change.reason, "message", text)
		r.Recorder.Eventf(r.regarding(ex, change.subject), nil, change.kind, change.reason, change.action, "%s", text)
	}
}

// regarding returns what an event is about: a part of the Extension. Recorders count events about the same object with
// the same reason as one event with the first text, so an event about the whole Extension would hide all caches but
// one.
func (r *Reconciler) regarding(ex *extensionsv1alpha1.Extension, subject string) runtime.Object {
	part, err := reference.GetReference(r.Client.Scheme(), ex)
	if err != nil {
		return ex
	}
	part.FieldPath = fmt.Sprintf("spec.providerConfig.caches{%s}", subject)
	return part
}

// notes returns the changes of a cache: of the states of its credentials, and of its readiness.
func notes(before, after registry.RegistryCacheStatus) []note {
	var found []note
	states := map[string]registry.CredentialsState{}
	for _, credential := range credentialsOf(before) {
		states[credential.name] = credential.status.State
	}
	for _, credential := range credentialsOf(after) {
		state := credential.status.State
		if state == states[credential.name] {
			continue
		}
		kind := corev1.EventTypeNormal
		if state == registry.CredentialsRejected || state == registry.CredentialsMissing {
			kind = corev1.EventTypeWarning
		}
		found = append(found, note{credential.name, kind, "Credentials" + string(state), "CheckCredentials", describe(credential)})
	}
	found = append(found, keptNotes(before, after)...)
	was, is := ready(before), ready(after)
	if is == nil || was != nil && was.Reason == is.Reason {
		return found
	}
	switch reason := readiness.Reason(is.Reason); {
	case isCredential(reason), reason == readiness.Ready && was != nil && isCredential(readiness.Reason(was.Reason)):
		// There is an event about the credential.
	case reason == readiness.Ready && was == nil:
		// The owner expects nothing else of a new cache.
	default:
		kind := corev1.EventTypeNormal
		if is.Status == metav1.ConditionFalse || reason == readiness.Degraded {
			kind = corev1.EventTypeWarning
		}
		found = append(found, note{after.Upstream, kind, "Cache" + is.Reason, "CheckReadiness", describeReadiness(after)})
	}
	return found
}

// isCredential reports whether a reason is about the credential, whose state has events and descriptions of its own.
func isCredential(reason readiness.Reason) bool {
	return reason == readiness.CredentialRejected || reason == readiness.CredentialMissing
}
