// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	"github.com/gardener/gardener/pkg/utils"
	secretsutils "github.com/gardener/gardener/pkg/utils/secrets"
	secretsmanager "github.com/gardener/gardener/pkg/utils/secrets/manager"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// A CA is replaced when the Shoot's CAs are rotated, and before it expires. That takes three steps, each at least one
// reconciliation after the one before, so that nodes and caches always trust each other:
//
//  1. The new CA joins the old one in the bundle, which nodes and caches have. All certificates stay with the old one.
//  2. When all nodes trust the new CA, the caches get certificates of it, and so do the nodes, as clients. Both CAs are
//     still trusted.
//  3. When the caches have had the time to serve these certificates, and all nodes have theirs, the old CA is removed
//     from the bundle.
//
// There are at most two CAs. A rotation that starts before an earlier one is complete takes effect afterwards.

const (
	secretsManagerIdentity = "extension-registry-cache"
	caName                 = "ca-extension-registry-cache"

	caValidity = 730 * 24 * time.Hour
	// caOverlap is the time after which all nodes have a renewed CA or certificate: a Shoot is reconciled every day.
	caOverlap = 7 * 24 * time.Hour
	// certificatePropagation is the time after which all replicas serve a deployed certificate.
	// gardener-resource-manager takes seconds to apply it, and kubelets up to two minutes to update its files.
	certificatePropagation = 5 * time.Minute
)

func certificateAuthority() *secretsutils.CertificateSecretConfig {
	return &secretsutils.CertificateSecretConfig{
		Name:       caName,
		CommonName: caName,
		CertType:   secretsutils.CACert,
		Validity:   new(caValidity),
	}
}

// nodesHave reports whether all nodes have a CA or a certificate that was created at the given time: They do once a
// rotation of the Shoot's CAs or its preparation has ended after that time, and otherwise after caOverlap. Time during
// the preparation of a rotation does not count, since nodes that are updated in place may get no files until it ends.
func nodesHave(shoot *gardencorev1beta1.Shoot, created, now time.Time) bool {
	if credentials := shoot.Status.Credentials; credentials != nil && credentials.Rotation != nil && credentials.Rotation.CertificateAuthorities != nil {
		rotation := credentials.Rotation.CertificateAuthorities
		for _, end := range []*metav1.Time{rotation.LastInitiationFinishedTime, rotation.LastCompletionTime} {
			if end != nil && created.Before(end.Time) {
				return true
			}
		}
		switch rotation.Phase {
		case gardencorev1beta1.RotationPreparing, gardencorev1beta1.RotationPreparingWithoutWorkersRollout, gardencorev1beta1.RotationWaitingForWorkersRollout:
			now = ptr.Deref(rotation.LastInitiationTime, metav1.NewTime(created)).Time
		}
	}
	return now.Sub(created) >= caOverlap
}

// mayDropOld reports whether an old CA may be removed from the bundle: an owner who prepared a rotation decides when to
// complete it.
func mayDropOld(shoot *gardencorev1beta1.Shoot) bool {
	switch v1beta1helper.GetShootCARotationPhase(shoot.Status.Credentials) {
	case "", gardencorev1beta1.RotationCompleting, gardencorev1beta1.RotationCompleted:
		return true
	}
	return false
}

// signingCA returns the option to sign with the new CA if all nodes trust it or the old one has expired, and otherwise
// with the old one, if there is one.
func (a *Actuator) signingCA(manager secretsmanager.Interface, shoot *gardencorev1beta1.Shoot) (secretsmanager.GenerateOption, error) {
	withCurrent := secretsmanager.SignedByCA(caName, secretsmanager.UseCurrentCA)
	current, found := manager.Get(caName, secretsmanager.Current)
	if !found {
		return nil, errors.New("current CA does not exist")
	}
	if nodesHave(shoot, current.CreationTimestamp.Time, a.Clock.Now()) {
		return withCurrent, nil
	}
	old, found := manager.Get(caName, secretsmanager.Old)
	if !found {
		return withCurrent, nil
	}
	certificate, err := utils.DecodeCertificate(old.Data[secretsutils.DataKeyCertificateCA])
	if err != nil {
		return nil, fmt.Errorf("parse old CA certificate: %w", err)
	}
	if !a.Clock.Now().Before(certificate.NotAfter) {
		return withCurrent, nil
	}
	// By default, the secrets manager signs certificates of clients with the current CA.
	return secretsmanager.SignedByCA(caName, secretsmanager.UseOldCA), nil
}

// secretsManager returns a manager that renews certificates, including that of the CA, before they expire, and performs
// the given rotations.
func (a *Actuator) secretsManager(ctx context.Context, log logr.Logger, namespace string, rotations map[string]time.Time) (secretsmanager.Interface, error) {
	manager, err := secretsmanager.New(ctx, log, a.Clock, a.Client, secretsManagerIdentity,
		secretsmanager.WithNamespaces(namespace),
		secretsmanager.WithCASecretAutoRotation(),
		secretsmanager.WithSecretNamesToTimes(rotations),
	)
	if err != nil {
		return nil, fmt.Errorf("create secrets manager: %w", err)
	}
	return manager, nil
}

// dueRotation returns the rotation of the CA if it has not followed that of the Shoot's CAs yet, and whether there is
// an old CA. The secrets manager prefers a given rotation time to its own, so that a rotation of years ago would
// prevent the renewal of a CA.
func (a *Actuator) dueRotation(ctx context.Context, namespace string, shoot *gardencorev1beta1.Shoot) (due map[string]time.Time, hasOld bool, err error) {
	authorities := &metav1.PartialObjectMetadataList{}
	authorities.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("SecretList"))
	if err := a.Client.List(ctx, authorities, client.InNamespace(namespace), client.MatchingLabels{
		secretsmanager.LabelKeyManagedBy:       secretsmanager.LabelValueSecretsManager,
		secretsmanager.LabelKeyManagerIdentity: secretsManagerIdentity,
		secretsmanager.LabelKeyName:            caName,
	}); err != nil {
		return nil, false, fmt.Errorf("list CAs: %w", err)
	}
	hasOld = len(authorities.Items) > 1
	credentials := shoot.Status.Credentials
	if credentials == nil || credentials.Rotation == nil || credentials.Rotation.CertificateAuthorities == nil ||
		credentials.Rotation.CertificateAuthorities.LastInitiationTime == nil {
		return nil, hasOld, nil
	}
	initiated := credentials.Rotation.CertificateAuthorities.LastInitiationTime.Time
	last, err := lastRotation(authorities.Items)
	if err != nil || initiated.Unix() <= last.Unix() {
		return nil, hasOld, err
	}
	return map[string]time.Time{caName: initiated}, hasOld, nil
}

// lastRotation returns the initiation time of the rotation that created the newest CA, the zero time if none did.
func lastRotation(authorities []metav1.PartialObjectMetadata) (time.Time, error) {
	var newest *metav1.PartialObjectMetadata
	for i := range authorities {
		// Like the manager, use the first of two CAs of the same second, as after a restore.
		if newest == nil || newest.CreationTimestamp.Time.Before(authorities[i].CreationTimestamp.Time) {
			newest = &authorities[i]
		}
	}
	if newest == nil || newest.Labels[secretsmanager.LabelKeyLastRotationInitiationTime] == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(newest.Labels[secretsmanager.LabelKeyLastRotationInitiationTime], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("parse last rotation time of %s: %w", newest.Name, err)
	}
	return time.Unix(seconds, 0), nil
}
