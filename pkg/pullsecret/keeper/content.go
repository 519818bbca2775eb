// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"errors"
	"fmt"

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
	if len(feed.Secrets) > pullsecret.MaxSecrets {
		return fmt.Errorf("the feed has %d pull secrets, more than the maximum of %d", len(feed.Secrets), pullsecret.MaxSecrets)
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
	return issuing
}

// attempted makes all namespaces follow an attempt to issue a credential.
func (k *Keeper) attempted(first bool) {
	k.mu.Lock()
	k.generation++
	if first {
		k.required = k.generation
	}
	k.mu.Unlock()
	k.enqueueAll()
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
