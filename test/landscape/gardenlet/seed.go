// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package gardenlet

import (
	"context"
	"errors"
	"fmt"
	"strings"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	extensioncomponent "github.com/gardener/gardener/pkg/component/extensions/extension"
	"github.com/gardener/gardener/pkg/controllerutils"
	gardenerutils "github.com/gardener/gardener/pkg/utils/gardener"
	"github.com/gardener/gardener/pkg/utils/managedresources"
	"github.com/gardener/gardener/pkg/utils/retry"
	"github.com/gardener/gardener/pkg/utils/secrets"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podsecurityadmissionapi "k8s.io/pod-security-admission/api"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

const referencedResources = "referenced-resources"

// deployNamespace deploys the Shoot's namespace in the seed. It has the labels of enabled extensions only, which select
// the namespaces for an extension's webhooks.
func (r *Reconciler) deployNamespace(ctx context.Context, shoot *gardencorev1beta1.Shoot) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: shoot.Status.TechnicalID}}
	_, err := controllerutils.GetAndCreateOrMergePatch(ctx, r.Client, namespace, func() error {
		metav1.SetMetaDataAnnotation(&namespace.ObjectMeta, v1beta1constants.ShootUID, string(shoot.Status.UID))
		for label := range namespace.Labels {
			if strings.HasPrefix(label, v1beta1constants.LabelExtensionPrefix) {
				delete(namespace.Labels, label)
			}
		}
		for label, value := range namespaceLabels(shoot) {
			metav1.SetMetaDataLabel(&namespace.ObjectMeta, label, value)
		}
		return nil
	})
	return err
}

func namespaceLabels(shoot *gardencorev1beta1.Shoot) map[string]string {
	seed := Seed()
	labels := map[string]string{
		v1beta1constants.GardenRole:                      v1beta1constants.GardenRoleShoot,
		v1beta1constants.LabelSeedProvider:               seed.Spec.Provider.Type,
		v1beta1constants.LabelBackupProvider:             seed.Spec.Provider.Type,
		v1beta1constants.LabelShootProvider:              shoot.Spec.Provider.Type,
		podsecurityadmissionapi.EnforceLevelLabel:        string(podsecurityadmissionapi.LevelPrivileged),
		resourcesv1alpha1.HighAvailabilityConfigConsider: "true",
	}
	if networking := shoot.Spec.Networking; networking != nil && networking.Type != nil {
		labels[v1beta1constants.LabelNetworkingProvider] = *networking.Type
	}
	for _, extension := range enabledExtensions(shoot) {
		labels[v1beta1constants.LabelExtensionPrefix+extension.Type] = "true"
	}
	return labels
}

func (r *Reconciler) deployKubeconfig(ctx context.Context, shoot *gardencorev1beta1.Shoot) error {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: v1beta1constants.SecretNameGardener, Namespace: shoot.Status.TechnicalID}}
	_, err := controllerutils.GetAndCreateOrMergePatch(ctx, r.Client, secret, func() error {
		secret.Data = map[string][]byte{secrets.DataKeyKubeconfig: r.Kubeconfig}
		return nil
	})
	return err
}

// deployReferencedResources copies the resources of spec.resources to the seed, through a ManagedResource as in
// Gardener. The flow does not wait for it: an extension may be reconciled before the copy exists.
func (r *Reconciler) deployReferencedResources(ctx context.Context, shoot *gardencorev1beta1.Shoot) error {
	copies, err := gardenerutils.PrepareReferencedResourcesForSeedCopy(ctx, r.Client, shoot.Spec.Resources, shoot.Namespace, shoot.Status.TechnicalID)
	if err != nil {
		return err
	}
	return managedresources.CreateFromUnstructured(ctx, r.Client, shoot.Status.TechnicalID, referencedResources, false,
		v1beta1constants.SeedResourceManagerClass, copies, false, nil)
}

func (r *Reconciler) destroyReferencedResources(ctx context.Context, shoot *gardencorev1beta1.Shoot) error {
	if err := managedresources.Delete(ctx, r.Client, shoot.Status.TechnicalID, referencedResources, false); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.Patience.Timeout)
	defer cancel()
	return managedresources.WaitUntilDeleted(ctx, r.Client, shoot.Status.TechnicalID, referencedResources)
}

// deleteNamespace deletes the Cluster and the namespace, and waits for the end of the latter.
func (r *Reconciler) deleteNamespace(ctx context.Context, shoot *gardencorev1beta1.Shoot) error {
	cluster := &extensionsv1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: shoot.Status.TechnicalID}}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: shoot.Status.TechnicalID}}
	for _, object := range []client.Object{cluster, namespace} {
		if err := client.IgnoreNotFound(r.Client.Delete(ctx, object)); err != nil {
			return fmt.Errorf("delete %T %s: %w", object, object.GetName(), err)
		}
	}
	return retry.UntilTimeout(ctx, r.Patience.Interval, r.Patience.Timeout, func(ctx context.Context) (bool, error) {
		switch err := r.Client.Get(ctx, client.ObjectKeyFromObject(namespace), namespace); {
		case apierrors.IsNotFound(err):
			return retry.Ok()
		case err != nil:
			return retry.SevereError(err)
		default:
			return retry.MinorError(errors.New("namespace still exists"))
		}
	})
}

// extensions returns Gardener's component for the Shoot's Extension resources.
func (r *Reconciler) extensions(ctx context.Context, shoot *gardencorev1beta1.Shoot) extensioncomponent.Interface {
	values := &extensioncomponent.Values{Namespace: shoot.Status.TechnicalID, Extensions: map[string]extensioncomponent.Extension{}}
	for _, extension := range enabledExtensions(shoot) {
		values.Extensions[extension.Type] = extensioncomponent.Extension{
			Extension: extensionsv1alpha1.Extension{
				ObjectMeta: metav1.ObjectMeta{Name: extension.Type, Namespace: values.Namespace},
				Spec: extensionsv1alpha1.ExtensionSpec{DefaultSpec: extensionsv1alpha1.DefaultSpec{
					Type:           extension.Type,
					ProviderConfig: extension.ProviderConfig,
				}},
			},
			Timeout: r.Patience.Timeout,
		}
	}
	return extensioncomponent.New(logf.FromContext(ctx), r.Client, values, r.Patience.Interval, r.Patience.Severe, r.Patience.Timeout)
}

func enabledExtensions(shoot *gardencorev1beta1.Shoot) []gardencorev1beta1.Extension {
	var enabled []gardencorev1beta1.Extension
	for _, extension := range shoot.Spec.Extensions {
		if !ptr.Deref(extension.Disabled, false) {
			enabled = append(enabled, extension)
		}
	}
	return enabled
}
