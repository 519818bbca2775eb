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

// A CA is followed by another one when the Shoot's CAs rotate, and before it
// expires. That takes three steps, each at least a reconciliation after the one
// before, so that nodes and caches trust each other all the time:
//
//  1. The new CA joins the old one in the bundle that the nodes get. The caches keep certificates of the old one.
//  2. When all nodes know the new CA, the caches get certificates of it. The nodes go on trusting both.
//  3. When the caches have had the time to take these over, the old CA leaves the bundle.
//
// There are two CAs at a time. A rotation that begins before an earlier one has
// come that far takes effect when it has.

const (
	secretsManagerIdentity = "extension-registry-cache"
	caName                 = "ca-extension-registry-cache"

	caValidity = 730 * 24 * time.Hour
	// caOverlap is the time after which all nodes know a renewed CA: a Shoot is reconciled every day.
	caOverlap = 7 * 24 * time.Hour
	// takeOver is the time after which all replicas serve a certificate that has been deployed. It takes
	// gardener-resource-manager seconds and kubelets up to two minutes to bring it to them.
	takeOver = 5 * time.Minute
)

func certificateAuthority() *secretsutils.CertificateSecretConfig {
	return &secretsutils.CertificateSecretConfig{
		Name:       caName,
		CommonName: caName,
		CertType:   secretsutils.CACert,
		Validity:   new(caValidity),
	}
}

// nodesKnow reports whether all nodes know a CA that was created at the given
// time. They do when a rotation of the Shoot's CAs, or its preparation, has ended
// since, and else after a while. While a rotation is being prepared, not all of
// them are updated, however long that takes.
func nodesKnow(shoot *gardencorev1beta1.Shoot, created, now time.Time) bool {
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

// mayDropOld reports whether the Shoot's owner has nothing against an old CA leaving the bundle: one that prepared a
// rotation says when it is to be completed.
func mayDropOld(shoot *gardencorev1beta1.Shoot) bool {
	switch v1beta1helper.GetShootCARotationPhase(shoot.Status.Credentials) {
	case "", gardencorev1beta1.RotationCompleting, gardencorev1beta1.RotationCompleted:
		return true
	}
	return false
}

// signingCA returns the option to sign with the new CA if all nodes know it, or if the old one has expired, and else with
// the old one, if there is one.
func (a *Actuator) signingCA(manager secretsmanager.Interface, shoot *gardencorev1beta1.Shoot) (secretsmanager.GenerateOption, error) {
	withCurrent := secretsmanager.SignedByCA(caName, secretsmanager.UseCurrentCA)
	current, found := manager.Get(caName, secretsmanager.Current)
	if !found {
		return nil, errors.New("find the current CA: there is none")
	}
	if nodesKnow(shoot, current.CreationTimestamp.Time, a.Clock.Now()) {
		return withCurrent, nil
	}
	if old, found := manager.Get(caName, secretsmanager.Old); found {
		certificate, err := utils.DecodeCertificate(old.Data[secretsutils.DataKeyCertificateCA])
		if err != nil {
			return nil, fmt.Errorf("parse the old CA certificate: %w", err)
		}
		if !a.Clock.Now().Before(certificate.NotAfter) {
			return withCurrent, nil
		}
	}
	return secretsmanager.SignedByCA(caName), nil
}

// secretsManager returns a manager that renews what is about to expire, the CA
// included, and carries out the given rotations.
func (a *Actuator) secretsManager(ctx context.Context, log logr.Logger, namespace string, rotations map[string]time.Time) (secretsmanager.Interface, error) {
	manager, err := secretsmanager.New(ctx, log, a.Clock, a.Client, secretsManagerIdentity,
		secretsmanager.WithNamespaces(namespace),
		secretsmanager.WithCASecretAutoRotation(),
		secretsmanager.WithSecretNamesToTimes(rotations),
	)
	if err != nil {
		return nil, fmt.Errorf("set up the secrets manager: %w", err)
	}
	return manager, nil
}

// dueRotation returns the rotation of the CA if it has not followed that of the
// Shoot's CAs yet, and whether there is an old CA. A time that is given to the
// secrets manager outweighs what it finds out itself: the rotation of years ago
// would keep a CA from being renewed.
func (a *Actuator) dueRotation(ctx context.Context, namespace string, shoot *gardencorev1beta1.Shoot) (due map[string]time.Time, hasOld bool, err error) {
	authorities := &metav1.PartialObjectMetadataList{}
	authorities.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("SecretList"))
	if err := a.Client.List(ctx, authorities, client.InNamespace(namespace), client.MatchingLabels{
		secretsmanager.LabelKeyManagedBy:       secretsmanager.LabelValueSecretsManager,
		secretsmanager.LabelKeyManagerIdentity: secretsManagerIdentity,
		secretsmanager.LabelKeyName:            caName,
	}); err != nil {
		return nil, false, fmt.Errorf("list the CAs: %w", err)
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

// lastRotation returns when the rotation was initiated that brought the newest
// CA, or the zero time if none did.
func lastRotation(authorities []metav1.PartialObjectMetadata) (time.Time, error) {
	var newest *metav1.PartialObjectMetadata
	for i := range authorities {
		// Of two that came in the same second, as after a restore, the manager takes the first, too.
		if newest == nil || newest.CreationTimestamp.Time.Before(authorities[i].CreationTimestamp.Time) {
			newest = &authorities[i]
		}
	}
	if newest == nil || newest.Labels[secretsmanager.LabelKeyLastRotationInitiationTime] == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(newest.Labels[secretsmanager.LabelKeyLastRotationInitiationTime], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("parse the time of the last rotation of %s: %w", newest.Name, err)
	}
	return time.Unix(seconds, 0), nil
}
