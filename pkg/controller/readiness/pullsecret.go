// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package readiness

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/excerpt"
	"github.com/larder-project/larder/pkg/pullsecret"
)

// These are the reasons of the condition [registry.ConditionPullSecretReady] beside those of a pod.
const (
	// PullSecretReady means that all namespaces have the pull secret.
	PullSecretReady Reason = "PullSecretReady"
	// PullSecretPending means that the upstream has not accepted the credential yet, or that the report is not available.
	PullSecretPending Reason = "PullSecretPending"
	// ForeignSecret means that a Secret that is not a pull secret has its name in a namespace.
	ForeignSecret Reason = "ForeignSecret"
	// PullSecretFailed means that a pull secret could not be written.
	PullSecretFailed Reason = "PullSecretFailed"
	// CredentialNotIssued means that no credential could be issued for the pull secret.
	CredentialNotIssued Reason = "CredentialNotIssued"
)

// PullSecret returns the condition of a pull secret. The problem is that of the controller's pod, and the report is nil
// if it does not respond. It returns false if nothing new is known. The report comes from the Shoot, so its texts are
// bounded.
func PullSecret(status registry.PullSecretStatus, problem Problem, report *pullsecret.Report) (metav1.Condition, bool) {
	if len(status.SecretNames) == 0 {
		return pullSecretCondition(metav1.ConditionUnknown, PullSecretPending,
			"Pull secret %q waits until the upstream has accepted the credential.", status.Name), true
	}
	if problem != (Problem{}) {
		return pullSecretCondition(metav1.ConditionFalse, problem.Reason,
			"Pull secret %q stays as it is, since its controller does not work. %s", status.Name, problem.Message), true
	}
	if report == nil {
		return metav1.Condition{}, false
	}
	for _, secret := range report.Secrets {
		if secret.Name == status.Name {
			if condition, ok := pullSecretProblem(secret); ok {
				return condition, true
			}
		}
	}
	if report.Feed == "" || report.Outstanding > 0 {
		return metav1.Condition{}, false
	}
	return pullSecretCondition(metav1.ConditionTrue, PullSecretReady, "All namespaces have pull secret %q.", status.Name), true
}

// pullSecretProblem returns the most important problem in a report.
func pullSecretProblem(secret pullsecret.SecretReport) (metav1.Condition, bool) {
	switch {
	case secret.Foreign.Count > 0:
		return pullSecretCondition(metav1.ConditionFalse, ForeignSecret,
			"Pull secret %q is missing in %s: a Secret with this name exists there that the registry cache did not create. It stays as it is. Delete or rename it, or change pullSecret.name.",
			secret.Name, namespaces(secret.Foreign)), true
	case secret.Credential != "":
		return pullSecretCondition(metav1.ConditionFalse, CredentialNotIssued,
			"A credential for pull secret %q could not be issued (%s).", secret.Name, excerpt.Line(secret.Credential, pullsecret.MaxReason)), true
	case secret.Failed.Count > 0:
		return pullSecretCondition(metav1.ConditionFalse, PullSecretFailed,
			"Pull secret %q could not be written in %s (%s). Quotas or admission webhooks of the cluster may prevent it.",
			secret.Name, namespaces(secret.Failed), excerpt.Line(secret.Reason, pullsecret.MaxReason)), true
	}
	return metav1.Condition{}, false
}

// namespaces describes some namespaces.
func namespaces(some pullsecret.Namespaces) string {
	listed := slices.DeleteFunc(slices.Clone(some.Listed), func(name string) bool { return len(validation.IsDNS1123Label(name)) > 0 })
	listed = listed[:min(len(listed), pullsecret.MaxListed)]
	if len(listed) == 0 {
		return fmt.Sprintf("%d namespaces", some.Count)
	}
	noun, more := "namespace ", ""
	if some.Count > 1 {
		noun = "namespaces "
	}
	if left := some.Count - len(listed); left > 0 {
		more = fmt.Sprintf(" and %d more", left)
	}
	return noun + strings.Join(listed, ", ") + more
}

func pullSecretCondition(status metav1.ConditionStatus, reason Reason, format string, args ...any) metav1.Condition {
	return metav1.Condition{
		Type: registry.ConditionPullSecretReady, Status: status, Reason: string(reason),
		Message: excerpt.Line(fmt.Sprintf(format, args...), MaxMessage),
	}
}
