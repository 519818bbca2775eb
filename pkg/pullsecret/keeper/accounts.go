// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/pullsecret"
)

const (
	// rotationInterval is how often the controller looks which passwords are due, and repairs their Secrets.
	rotationInterval = time.Minute
	// accountsLabelValue is the value of [pullsecret.Label] of a Secret with the accounts of a cache. It differs from that
	// of pull secrets, so that such a Secret is never taken for one.
	accountsLabelValue = "accounts"
)

// errForeignAccounts is the error for a Secret of somebody else in the place of a cache's accounts.
var errForeignAccounts = errors.New("a Secret that is not the controller's has the name")

// rotate rotates passwords until the context ends.
func (k *Keeper) rotate(ctx context.Context) {
	for {
		feed, _ := k.current()
		for _, cache := range feed.Caches() {
			k.rotateCache(ctx, cache, slices.DeleteFunc(slices.Clone(feed.Accounts), func(account pullsecret.Account) bool { return account.Cache != cache }))
		}
		k.forgetLedgers(feed.Caches())
		select {
		case <-ctx.Done():
			return
		case <-k.Clock.After(rotationInterval):
		case <-k.rotationDue:
		}
	}
}

// rotateCache takes the steps that are due for the accounts of a cache.
func (k *Keeper) rotateCache(ctx context.Context, cache string, accounts []pullsecret.Account) {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	next, err := k.advance(ctx, cache, accounts)
	k.mu.Lock()
	before := k.ledgers[cache]
	failure := ""
	if err != nil {
		failure = reason(err)
		k.Log.Info("Failed to rotate passwords of accounts", "cache", cache, "reason", failure)
	}
	k.ledgerFailures[cache] = failure
	changed, first := false, false
	if err == nil {
		k.ledgers[cache] = next
		changed, first = !sameCurrent(before, next), hasFirst(before, next)
	}
	k.mu.Unlock()
	if changed {
		k.attempted(first)
	}
}

// hasFirst reports whether an account has a password for clients that had none.
func hasFirst(before, next ledger) bool {
	for name, account := range next {
		if account.Current != nil && before[name].Current == nil {
			return true
		}
	}
	return false
}

// sameCurrent reports whether clients need no other passwords.
func sameCurrent(a, b ledger) bool {
	return maps.EqualFunc(a, b, func(a, b passwords) bool {
		return a.Current == b.Current || a.Current != nil && b.Current != nil && a.Current.Text == b.Current.Text
	})
}

// advance takes the steps that are due, and returns the ledger that is stored afterwards. A step counts only once it is
// stored. If the Secret is gone, the passwords that clients have stay.
func (k *Keeper) advance(ctx context.Context, cache string, accounts []pullsecret.Account) (ledger, error) {
	name := pullsecret.AccountsSecretName(cache)
	secrets := k.Client.CoreV1().Secrets(pullsecret.Namespace)
	present, err := secrets.Get(ctx, name, metav1.GetOptions{})
	var before ledger
	switch {
	case apierrors.IsNotFound(err):
		present = nil
		k.mu.Lock()
		before = k.ledgers[cache]
		k.mu.Unlock()
	case err != nil:
		return nil, fmt.Errorf("read Secret %s: %w", name, err)
	case present.Labels[pullsecret.Label] != accountsLabelValue:
		return nil, errForeignAccounts
	default:
		before = decodeLedger(present.Data, k.Clock.Now())
	}
	next := before.advance(k.Clock.Now(), accounts, k.isDelivered)
	content, err := next.encode(accounts)
	if err != nil {
		return nil, err
	}
	if present == nil {
		return next, k.createAccounts(ctx, cache, content)
	}
	if maps.EqualFunc(present.Data, content, bytes.Equal) {
		return next, nil
	}
	present.Data = content
	if _, err := secrets.Update(ctx, present, metav1.UpdateOptions{FieldManager: fieldManager}); err != nil {
		return nil, fmt.Errorf("update Secret %s: %w", name, err)
	}
	return next, nil
}

// createAccounts creates the Secret with the accounts of a cache. The Role that permits the controller to change it
// owns it, so that Kubernetes deletes it after that.
func (k *Keeper) createAccounts(ctx context.Context, cache string, content map[string][]byte) error {
	name := pullsecret.AccountsSecretName(cache)
	role, err := k.Client.RbacV1().Roles(pullsecret.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read Role %s: %w", name, err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: pullsecret.Namespace,
			Labels:          map[string]string{pullsecret.Label: accountsLabelValue},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "Role", Name: role.Name, UID: role.UID}},
		},
		Type: corev1.SecretTypeOpaque,
		Data: content,
	}
	if _, err := k.Client.CoreV1().Secrets(pullsecret.Namespace).Create(ctx, secret, metav1.CreateOptions{FieldManager: fieldManager}); err != nil {
		return fmt.Errorf("create Secret %s: %w", name, err)
	}
	return nil
}

// isDelivered reports whether all namespaces of an account have its current password.
func (k *Keeper) isDelivered(account pullsecret.Account) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, namespace := range account.Namespaces {
		found := k.results[namespace]
		if _, failed := found.failed[account.SecretName]; !k.isTerminating(namespace) && (failed || found.generation != k.generation) {
			return false
		}
	}
	return true
}

// currentPassword returns what clients of an account get, and false if there is nothing yet.
func (k *Keeper) currentPassword(account pullsecret.Account) (string, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	current := k.ledgers[account.Cache][account.Name].Current
	if current == nil {
		return "", false
	}
	return current.Text, true
}

// forgetLedgers drops the ledgers of caches without accounts.
func (k *Keeper) forgetLedgers(caches []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	isGone := func(cache string) bool { return !slices.Contains(caches, cache) }
	maps.DeleteFunc(k.ledgers, func(cache string, _ ledger) bool { return isGone(cache) })
	maps.DeleteFunc(k.ledgerFailures, func(cache, _ string) bool { return isGone(cache) })
}
