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

// These are the reasons of the conditions [registry.ConditionPullSecretReady] and [registry.ConditionAccountsReady]
// beside those of a pod.
const (
	// PullSecretReady means that all namespaces have the pull secret.
	PullSecretReady Reason = "PullSecretReady"
	// PullSecretPending means that the upstream has not accepted a credential yet, or that not all namespaces have the pull
	// secret as it should be.
	PullSecretPending Reason = "PullSecretPending"
	// ForeignSecret means that a Secret that is not a pull secret has its name in a namespace.
	ForeignSecret Reason = "ForeignSecret"
	// PullSecretFailed means that a pull secret could not be written.
	PullSecretFailed Reason = "PullSecretFailed"
	// CredentialNotIssued means that no credential could be issued for the pull secret.
	CredentialNotIssued Reason = "CredentialNotIssued"
	// AccountsReady means that all namespaces have the Secrets of the accounts.
	AccountsReady Reason = "AccountsReady"
	// AccountsPending means that the servers may not have the first password of an account yet, or that not all namespaces
	// have the Secrets as they should be.
	AccountsPending Reason = "AccountsPending"
	// AccountsFailed means that the Secret of an account could not be written.
	AccountsFailed Reason = "AccountsFailed"
	// PasswordNotStored means that the passwords of accounts could not be stored.
	PasswordNotStored Reason = "PasswordNotStored"
)

// Accounts returns the condition of the accounts of a cache. The other arguments are those of [PullSecret].
func Accounts(accounts []registry.AccountStatus, problem Problem, report *pullsecret.Report, feed string) metav1.Condition {
	switch {
	case problem != (Problem{}):
		return accountsCondition(metav1.ConditionFalse, problem.Reason,
			"The Secrets of accounts stay as they are, since their controller does not work. %s", problem.Message)
	case report == nil:
		return accountsCondition(metav1.ConditionUnknown, ReportsMissing,
			"The controller of the Secrets of accounts runs, but has not reported for a while. The API server must be able to reach port %d of its pod.", pullsecret.Port)
	case report.Feed != feed:
		return accountsCondition(metav1.ConditionUnknown, AccountsPending, "The accounts have been changed, but their controller does not know it yet.")
	}
	pending := ""
	for _, secret := range report.Secrets {
		if !slices.ContainsFunc(accounts, func(account registry.AccountStatus) bool { return account.SecretName == secret.Name }) {
			continue
		}
		if condition, ok := accountProblem(secret); ok {
			return condition
		}
		if secret.Pending {
			pending = secret.Name
		}
	}
	switch {
	case pending != "":
		return accountsCondition(metav1.ConditionUnknown, AccountsPending, "Secret %q waits until all replicas of the cache accept its password.", pending)
	case report.Outstanding > 0:
		return accountsCondition(metav1.ConditionUnknown, AccountsPending, "The Secrets of accounts have not been written to all namespaces yet.")
	}
	return accountsCondition(metav1.ConditionTrue, AccountsReady, "All namespaces have the Secrets of the accounts.")
}

// AccountsUnknown returns the condition of accounts that cannot be observed.
func AccountsUnknown(reason Reason, message string) metav1.Condition {
	return accountsCondition(metav1.ConditionUnknown, reason, "%s", message)
}

// accountProblem returns the most important problem in a report.
func accountProblem(secret pullsecret.SecretReport) (metav1.Condition, bool) {
	switch {
	case secret.Foreign.Count > 0:
		return accountsCondition(metav1.ConditionFalse, ForeignSecret,
			"Secret %q of an account is missing in %s: a Secret with this name exists there that the registry cache did not create. It stays as it is. Delete or rename it, or change the name of the account.",
			secret.Name, namespaces(secret.Foreign)), true
	case secret.Storage != "":
		return accountsCondition(metav1.ConditionFalse, PasswordNotStored,
			"The password for Secret %q could not be stored (%s). Delete a Secret of this name that the registry cache did not create, and check the admission webhooks of the cluster. Previous passwords stay valid for a while.", secret.Name, excerpt.Line(secret.Storage, pullsecret.MaxReason)), true
	case secret.Failed.Count > 0:
		return accountsCondition(metav1.ConditionFalse, AccountsFailed,
			"Secret %q of an account could not be written in %s (%s). Quotas or admission webhooks of the cluster may prevent it.",
			secret.Name, namespaces(secret.Failed), excerpt.Line(secret.Reason, pullsecret.MaxReason)), true
	}
	return metav1.Condition{}, false
}

// PullSecret returns the condition of a cache's pull secret. The problem is that of the controller's pod, the report is
// nil if it does not respond, and the feed is the digest of the one that it should follow. The report comes from the
// Shoot, so its texts are bounded.
func PullSecret(cache registry.RegistryCacheStatus, problem Problem, report *pullsecret.Report, feed string) metav1.Condition {
	status := *cache.PullSecret
	if len(status.SecretNames) == 0 {
		return pullSecretCondition(metav1.ConditionUnknown, PullSecretPending,
			"Pull secret %q waits until the upstream has accepted the credential.", status.Name)
	}
	switch {
	case problem != (Problem{}):
		return pullSecretCondition(metav1.ConditionFalse, problem.Reason,
			"Pull secret %q stays as it is, since its controller does not work. %s", status.Name, problem.Message)
	case report == nil:
		return pullSecretCondition(metav1.ConditionUnknown, ReportsMissing,
			"The controller of pull secret %q runs, but has not reported for a while. The API server must be able to reach port %d of its pod.", status.Name, pullsecret.Port)
	case report.Feed == feed:
		for _, secret := range report.Secrets {
			if secret.Name != status.Name {
				continue
			}
			if condition, ok := pullSecretProblem(secret, report.ReferencesReason); ok {
				return condition
			}
		}
	}
	if !report.Follows(feed) {
		return pullSecretCondition(metav1.ConditionUnknown, PullSecretPending,
			"Pull secret %q has been changed, but its controller has not written it to all namespaces yet.", status.Name)
	}
	if missing := unpublished(cache); len(missing) > 0 {
		return pullSecretCondition(metav1.ConditionUnknown, PullSecretPending,
			"Pull secret %q waits until the upstream has accepted the credential for %s.", status.Name, strings.Join(missing, ", "))
	}
	return pullSecretCondition(metav1.ConditionTrue, PullSecretReady, "All namespaces have pull secret %q.", status.Name)
}

// maxUnpublished bounds the credentials that a condition lists.
const maxUnpublished = 3

// unpublished describes the credentials that the pull secret of a cache does not have. During a rotation, it has the
// previous one.
func unpublished(cache registry.RegistryCacheStatus) []string {
	var missing []string
	total := len(cache.RepositoryCredentials)
	isMissing := func(status registry.CredentialsStatus) bool {
		return !slices.Contains(cache.PullSecret.SecretNames, status.SecretName)
	}
	if cache.Credentials != nil {
		total++
		if isMissing(*cache.Credentials) {
			missing = append(missing, "all other repositories")
		}
	}
	for _, credential := range cache.RepositoryCredentials {
		if isMissing(credential.Credentials) {
			missing = append(missing, strings.Join(credential.Repositories[:min(1, len(credential.Repositories))], ""))
		}
	}
	if len(cache.PullSecret.SecretNames) >= total {
		return nil
	}
	return missing[:min(len(missing), maxUnpublished)]
}

// pullSecretProblem returns the problem in a report that concerns most namespaces. A credential that cannot be issued
// concerns all of them.
func pullSecretProblem(secret pullsecret.SecretReport, referencesReason string) (metav1.Condition, bool) {
	most := max(secret.Failed.Count, secret.Unreferenced.Count, secret.Foreign.Count)
	switch {
	case secret.Credential != "":
		return pullSecretCondition(metav1.ConditionFalse, CredentialNotIssued,
			"A credential for pull secret %q could not be issued (%s).", secret.Name, excerpt.Line(secret.Credential, pullsecret.MaxReason)), true
	case most <= 0:
		return metav1.Condition{}, false
	case secret.Failed.Count == most:
		return pullSecretCondition(metav1.ConditionFalse, PullSecretFailed,
			"Pull secret %q could not be written in %s (%s). Quotas or admission webhooks of the cluster may prevent it.",
			secret.Name, namespaces(secret.Failed), excerpt.Line(secret.Reason, pullsecret.MaxReason)), true
	case secret.Unreferenced.Count == most:
		return pullSecretCondition(metav1.ConditionFalse, PullSecretFailed,
			"Pull secret %q could not be added to the ServiceAccount default in %s (%s). Admission webhooks of the cluster may prevent it.",
			secret.Name, namespaces(secret.Unreferenced), excerpt.Line(referencesReason, pullsecret.MaxReason)), true
	}
	return pullSecretCondition(metav1.ConditionFalse, ForeignSecret,
		"Pull secret %q is missing in %s: a Secret with this name exists there that the registry cache did not create. It stays as it is. Delete or rename it, or change pullSecret.name.",
		secret.Name, namespaces(secret.Foreign)), true
}

// PullSecretUnknown returns the condition of a pull secret that cannot be observed.
func PullSecretUnknown(reason Reason, message string) metav1.Condition {
	return pullSecretCondition(metav1.ConditionUnknown, reason, "%s", message)
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
	return secretCondition(registry.ConditionPullSecretReady, status, reason, fmt.Sprintf(format, args...))
}

func accountsCondition(status metav1.ConditionStatus, reason Reason, format string, args ...any) metav1.Condition {
	return secretCondition(registry.ConditionAccountsReady, status, reason, fmt.Sprintf(format, args...))
}

func secretCondition(kind string, status metav1.ConditionStatus, reason Reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: string(reason), Message: excerpt.Line(message, MaxMessage)}
}
