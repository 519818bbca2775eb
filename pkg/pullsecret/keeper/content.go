// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/larder-project/larder/pkg/pullsecret"
)

// follow makes all namespaces follow a feed.
func (k *Keeper) follow(ctx context.Context, encoded []byte) error {
	digest := pullsecret.Digest(encoded)
	k.mu.Lock()
	known := k.digest == digest
	k.mu.Unlock()
	if known {
		return nil
	}
	feed, err := pullsecret.DecodeFeed(encoded)
	if err != nil {
		return err
	}
	if len(feed.Secrets) > pullsecret.MaxSecrets || len(feed.Accounts) > pullsecret.MaxAccounts {
		return fmt.Errorf("the feed has %d pull secrets and %d accounts, more than the maximum of %d and %d",
			len(feed.Secrets), len(feed.Accounts), pullsecret.MaxSecrets, pullsecret.MaxAccounts)
	}
	issuing := k.issuance.follow(ctx, feed) // What can be issued is; the report has the rest.
	k.mu.Lock()
	k.feed, k.digest = feed, digest
	k.generation++
	k.required, k.owners = k.generation, map[string]ownerReference{}
	k.watchSecrets(ctx, feed.Names())
	k.mu.Unlock()
	k.Log.Info("Following a changed feed", "secrets", feed.Names())
	k.enqueueAll()
	select {
	case k.rotationDue <- struct{}{}:
	default: // It is due already.
	}
	return issuing
}

// attempted makes all namespaces follow an attempt to issue a credential, or to store passwords.
func (k *Keeper) attempted(first bool) {
	k.mu.Lock()
	k.generation++
	if first {
		k.required = k.generation
	}
	k.mu.Unlock()
	k.enqueueAll()
}

// kept is a Secret that namespaces have: a pull secret, or that of an account.
type kept struct {
	name string
	// selects reports whether the Secret belongs in a namespace.
	selects func(namespace *corev1.Namespace) bool
	// content returns the content in a namespace, nil if it is not known yet. Present is nil if there is no such Secret.
	content func(ctx context.Context, present *corev1.Secret) (map[string][]byte, error)
	// isReferenced reports whether the default ServiceAccount references the Secret.
	isReferenced bool
}

// keptOf returns the Secrets that a feed describes.
func (k *Keeper) keptOf(feed pullsecret.Feed) []kept {
	var all []kept
	for _, secret := range feed.Secrets {
		all = append(all, kept{
			name:    secret.Name,
			selects: func(namespace *corev1.Namespace) bool { return secret.Selects(namespace.Name, namespace.Labels) },
			content: func(ctx context.Context, present *corev1.Secret) (map[string][]byte, error) {
				return k.contentOf(ctx, secret, present)
			},
			isReferenced: secret.AddToDefaultServiceAccounts,
		})
	}
	for _, account := range feed.Accounts {
		all = append(all, kept{
			name:    account.SecretName,
			selects: func(namespace *corev1.Namespace) bool { return slices.Contains(account.Namespaces, namespace.Name) },
			content: func(context.Context, *corev1.Secret) (map[string][]byte, error) {
				password, ok := k.currentPassword(account)
				if !ok {
					return nil, nil
				}
				return account.Content(password, feed.CABundle), nil
			},
		})
	}
	return all
}

// contentOf returns the content of a pull secret, nil if no credential has been accepted or issued yet, or if an
// attempt to issue one has not ended yet.
func (k *Keeper) contentOf(ctx context.Context, secret pullsecret.Secret, present *corev1.Secret) (map[string][]byte, error) {
	auths := pullsecret.Auths{}
	missing, attempted := k.add(auths, secret)
	if !attempted && present != nil {
		return nil, nil // Keep what is there; all namespaces are reconciled after the attempt.
	}
	if missing && present != nil {
		deployed, err := k.deployed(ctx, present.Namespace, secret.Name)
		if err != nil {
			return nil, err
		}
		k.keep(auths, secret, deployed)
	}
	if len(auths) == 0 {
		return nil, nil
	}
	return map[string][]byte{corev1.DockerConfigJsonKey: auths.Encode()}, nil
}

// add adds all credentials that a pull secret can have now. It reports whether one is missing, and whether an attempt
// was made to issue each.
func (k *Keeper) add(auths pullsecret.Auths, secret pullsecret.Secret) (missing, attempted bool) {
	attempted = true
	for _, registry := range secret.Registries {
		for _, entry := range registry.Credentials {
			if entry.Material == nil {
				missing = true
				continue
			}
			credential, err := k.issuance.credential(registry, *entry.Material)
			attempted = attempted && !errors.Is(err, errNotIssued)
			if err == nil {
				err = auths.Add(registry, entry.Repositories, credential)
			}
			if err != nil {
				missing = true
			}
		}
	}
	return missing, attempted
}

// keep adds the deployed entries for all credentials that are missing.
func (k *Keeper) keep(auths pullsecret.Auths, secret pullsecret.Secret, deployed pullsecret.Auths) {
	for _, registry := range secret.Registries {
		for _, entry := range registry.Credentials {
			auths.Keep(registry, entry.Repositories, deployed)
		}
	}
}
