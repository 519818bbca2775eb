// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	securityv1alpha1constants "github.com/gardener/gardener/pkg/apis/security/v1alpha1/constants"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TokensAnnotation is the annotation of the ManagedResource of the caches with the [Reader.TokenDigest] of the tokens
// that it deploys.
const TokensAnnotation = "registry.extensions.gardener.cloud/token-digest"

// TokenDigest returns a digest of the present tokens of all WorkloadIdentities that entries of spec.resources reference,
// empty if they reference none.
func (r Reader) TokenDigest(ctx context.Context, entries []string) (string, error) {
	identities := sets.New[string]()
	for _, entry := range entries {
		if resource := v1beta1helper.GetResourceByName(r.Shoot.Spec.Resources, entry); resource != nil && isWorkloadIdentity(resource.ResourceRef) {
			identities.Insert(resource.ResourceRef.Name)
		}
	}
	if len(identities) == 0 {
		return "", nil
	}
	digest := sha256.New()
	for _, name := range sets.List(identities) {
		secret := &corev1.Secret{}
		if err := r.Client.Get(ctx, r.identityKey(name), secret); client.IgnoreNotFound(err) != nil {
			return "", fmt.Errorf("read token of WorkloadIdentity %q: %w", name, err)
		}
		token := sha256.Sum256(secret.Data[securityv1alpha1constants.DataKeyToken])
		digest.Write([]byte(name))
		digest.Write(token[:])
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}
