// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"fmt"
	"strconv"
	"time"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	"github.com/gardener/gardener/pkg/utils"
	secretsutils "github.com/gardener/gardener/pkg/utils/secrets"
	secretsmanager "github.com/gardener/gardener/pkg/utils/secrets/manager"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// A CA is followed by another one when the Shoot's CAs rotate, and before it
// expires. That takes three steps, each at least a reconciliation after the one
// before, so that nodes and caches trust each other all the time:
//
//  1. The new CA joins the old one in the bundle that the nodes get. The caches keep certificates of the old one.
//  2. When all nodes know the new CA, the caches get certificates of it. The nodes go on trusting both.
//  3. When the caches have had the time to take these over, the old CA leaves the bundle.

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
// time. While a rotation of the Shoot's CAs is being prepared, not all of them
// have been updated, however long that takes. The end of the preparation, and
// that of the rotation, is when all have.
func nodesKnow(shoot *gardencorev1beta1.Shoot, created, now time.Time) bool {
	switch v1beta1helper.GetShootCARotationPhase(shoot.Status.Credentials) {
	case gardencorev1beta1.RotationPreparing, gardencorev1beta1.RotationPreparingWithoutWorkersRollout, gardencorev1beta1.RotationWaitingForWorkersRollout:
		return false
	case gardencorev1beta1.RotationPrepared, gardencorev1beta1.RotationCompleting, gardencorev1beta1.RotationCompleted:
		rotation := shoot.Status.Credentials.Rotation.CertificateAuthorities
		for _, end := range []*metav1.Time{rotation.LastInitiationFinishedTime, rotation.LastCompletionTime} {
			if end != nil && created.Before(end.Time) {
				return true
			}
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
		return nil, fmt.Errorf("find the current CA: there is none")
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
// included, and rotates the CA with those of the Shoot.
func (a *Actuator) secretsManager(ctx context.Context, log logr.Logger, cluster *extensionscontroller.Cluster) (secretsmanager.Interface, error) {
	namespace := cluster.ObjectMeta.Name
	rotations, err := a.dueRotations(ctx, namespace, cluster.Shoot)
	if err != nil {
		return nil, err
	}
	manager, err := secretsmanager.New(ctx, log, a.Clock, a.Client, secretsManagerIdentity,
		secretsmanager.WithNamespaces(namespace),
		secretsmanager.WithCASecretAutoRotation(),
		secretsmanager.WithSecretNamesToTimes(rotations),
	)
	if err != nil {
		return nil, fmt.Errorf("could not set up the secrets manager: %w", err)
	}
	return manager, nil
}

// dueRotations returns the time of the Shoot's CA rotation if the CA has not
// followed it yet. A time that is given to the secrets manager outweighs what it
// finds out itself: the rotation of years ago would keep a CA from being renewed.
func (a *Actuator) dueRotations(ctx context.Context, namespace string, shoot *gardencorev1beta1.Shoot) (map[string]time.Time, error) {
	credentials := shoot.Status.Credentials
	if credentials == nil || credentials.Rotation == nil || credentials.Rotation.CertificateAuthorities == nil ||
		credentials.Rotation.CertificateAuthorities.LastInitiationTime == nil {
		return nil, nil
	}
	initiated := credentials.Rotation.CertificateAuthorities.LastInitiationTime.Time
	last, err := a.lastRotation(ctx, namespace)
	if err != nil {
		return nil, err
	}
	if initiated.Unix() <= last.Unix() {
		return nil, nil
	}
	return map[string]time.Time{caName: initiated}, nil
}

// lastRotation returns when the rotation was initiated that brought the newest
// CA, or the zero time if none did.
func (a *Actuator) lastRotation(ctx context.Context, namespace string) (time.Time, error) {
	secrets := &corev1.SecretList{}
	if err := a.Client.List(ctx, secrets, client.InNamespace(namespace), client.MatchingLabels{
		secretsmanager.LabelKeyManagedBy:       secretsmanager.LabelValueSecretsManager,
		secretsmanager.LabelKeyManagerIdentity: secretsManagerIdentity,
		secretsmanager.LabelKeyName:            caName,
	}); err != nil {
		return time.Time{}, fmt.Errorf("could not list the CAs: %w", err)
	}
	var newest *corev1.Secret
	for _, secret := range secrets.Items {
		// Of two that came in the same second, as after a restore, the manager takes the first, too.
		if newest == nil || newest.CreationTimestamp.Time.Before(secret.CreationTimestamp.Time) {
			newest = &secret
		}
	}
	if newest == nil || newest.Labels[secretsmanager.LabelKeyLastRotationInitiationTime] == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(newest.Labels[secretsmanager.LabelKeyLastRotationInitiationTime], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("could not parse the time of the last rotation of %s: %w", newest.Name, err)
	}
	return time.Unix(seconds, 0), nil
}
