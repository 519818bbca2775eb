// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/larder-project/larder/pkg/excerpt"
	"github.com/larder-project/larder/pkg/pullsecret"
)

// Report returns the state of all Secrets that the controller keeps.
func (k *Keeper) Report() pullsecret.Report {
	if !k.Ready() {
		return pullsecret.Report{}
	}
	namespaces := slices.Sorted(slices.Values(k.namespaces.GetStore().ListKeys()))
	k.mu.Lock()
	defer k.mu.Unlock()
	report := pullsecret.Report{Feed: k.digest, Unissued: k.issuance.unissued()}
	for _, namespace := range namespaces {
		if k.results[namespace].generation < k.required && !k.isTerminating(namespace) {
			report.Outstanding++
		}
	}
	for _, namespace := range namespaces {
		if reason := k.results[namespace].references; reason != "" {
			report.References.Add(namespace)
			report.ReferencesReason = reason
		}
	}
	for _, secret := range k.feed.Secrets {
		report.Secrets = k.describe(report.Secrets, pullsecret.SecretReport{Name: secret.Name, Credential: k.credentialFailure(secret)}, namespaces)
	}
	for _, account := range k.feed.Accounts {
		described := pullsecret.SecretReport{Name: account.SecretName, Pending: k.ledgers[account.Cache][account.Name].Current == nil}
		if failure := k.ledgerFailures[account.Cache]; failure != "" {
			described.Storage = excerpt.Line(fmt.Sprintf("Secret %s/%s: %s", pullsecret.Namespace, pullsecret.AccountsSecretName(account.Cache), failure), pullsecret.MaxReason)
		}
		report.Secrets = k.describe(report.Secrets, described, namespaces)
	}
	return report
}

// describe adds the state of a Secret in all namespaces to the described ones, unless there is no problem. The caller
// holds k.mu.
func (k *Keeper) describe(all []pullsecret.SecretReport, described pullsecret.SecretReport, namespaces []string) []pullsecret.SecretReport {
	for _, namespace := range namespaces {
		found := k.results[namespace]
		if found.foreign[described.Name] {
			described.Foreign.Add(namespace)
		}
		if reason, failed := found.failed[described.Name]; failed {
			described.Failed.Add(namespace)
			described.Reason = reason
		}
		if slices.Contains(found.unreferenced, described.Name) {
			described.Unreferenced.Add(namespace)
		}
	}
	if described.Foreign.Count+described.Failed.Count+described.Unreferenced.Count > 0 || described.Credential != "" || described.Storage != "" || described.Pending {
		return append(all, described)
	}
	return all
}

// credentialFailure returns why a credential of a pull secret is missing, if that is not only a matter of time.
func (k *Keeper) credentialFailure(secret pullsecret.Secret) string {
	for _, registry := range secret.Registries {
		for _, entry := range registry.Credentials {
			if entry.Material == nil {
				continue
			}
			err := k.issuance.failure(registry, *entry.Material)
			if err == nil {
				err = pullsecret.Usable(*entry.Material, registry.Host)
			}
			if err != nil {
				return excerpt.Line(registry.Upstream+": "+err.Error(), pullsecret.MaxReason)
			}
		}
	}
	return ""
}

// isTerminating reports whether a namespace is being deleted or gone.
func (k *Keeper) isTerminating(name string) bool {
	object, exists, err := k.namespaces.GetStore().GetByKey(name)
	if err != nil || !exists {
		return true
	}
	return object.(*corev1.Namespace).DeletionTimestamp != nil
}

// Ready reports whether the controller works: it has a feed, and knows the namespaces.
func (k *Keeper) Ready() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.digest != "" && k.namespaces.HasSynced() && k.accounts.HasSynced()
}

// Handler serves the report and the probes.
func (k *Keeper) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pullsecret.ReportPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(k.Report()) // The client is gone if it fails.
	})
	mux.HandleFunc("GET "+pullsecret.HealthPath, func(w http.ResponseWriter, _ *http.Request) {
		if !k.Ready() {
			http.Error(w, "waiting for the feed and the namespaces", http.StatusServiceUnavailable)
		}
	})
	return mux
}
