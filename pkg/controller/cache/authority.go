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
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// A CA is followed by another one when the Shoot's CAs rotate, and before it
// expires. Either way the nodes trust both CAs for a while, and the caches keep
// certificates of the old one until all nodes know the new one.

const (
	secretsManagerIdentity = "extension-registry-cache"
	caName                 = "ca-extension-registry-cache"

	caValidity = 730 * 24 * time.Hour
	// caOverlap is the time after which all nodes know a renewed CA: a Shoot is reconciled every day.
	caOverlap = 7 * 24 * time.Hour
)

func certificateAuthority() *secretsutils.CertificateSecretConfig {
	return &secretsutils.CertificateSecretConfig{
		Name:       caName,
		CommonName: caName,
		CertType:   secretsutils.CACert,
		Validity:   new(caValidity),
	}
}

// authorityOptions say how long an old CA stays. While the Shoot's CAs rotate
// that is for the Shoot's owner to say, who may take longer than [caOverlap].
func authorityOptions(cluster *extensionscontroller.Cluster) []secretsmanager.GenerateOption {
	options := []secretsmanager.GenerateOption{secretsmanager.Persist(), secretsmanager.Rotate(secretsmanager.KeepOld)}
	switch v1beta1helper.GetShootCARotationPhase(cluster.Shoot.Status.Credentials) {
	case gardencorev1beta1.RotationCompleting:
		options = append(options, secretsmanager.IgnoreOldSecrets())
	case "", gardencorev1beta1.RotationCompleted:
		options = append(options, secretsmanager.IgnoreOldSecretsAfter(caOverlap))
	}
	return options
}

// signedByCA signs with the old CA while there is one that is still valid.
func (a *Actuator) signedByCA(manager secretsmanager.Interface) (secretsmanager.GenerateOption, error) {
	if old, found := manager.Get(caName, secretsmanager.Old); found {
		certificate, err := utils.DecodeCertificate(old.Data[secretsutils.DataKeyCertificateCA])
		if err != nil {
			return nil, fmt.Errorf("could not parse the old CA certificate: %w", err)
		}
		if !a.Clock.Now().Before(certificate.NotAfter) {
			return secretsmanager.SignedByCA(caName, secretsmanager.UseCurrentCA), nil
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
