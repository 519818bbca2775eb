// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package gardenlet

import (
	"context"
	"errors"
	"fmt"

	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/extensions"
	gardenerutils "github.com/gardener/gardener/pkg/utils/gardener"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

// reconcile is the gardenlet's flow for the creation and reconciliation of a Shoot, reduced to the steps that an
// extension notices.
func (r *Reconciler) reconcile(ctx context.Context, shoot *gardencorev1beta1.Shoot) error {
	extension := r.extensions(ctx, shoot)

	return inOrder(ctx,
		step{"Deploying the namespace in the seed", func(ctx context.Context) error { return r.deployNamespace(ctx, shoot) }},
		step{"Syncing the Cluster resource", func(ctx context.Context) error { return r.syncCluster(ctx, shoot) }},
		step{"Deploying the shoot's kubeconfig", func(ctx context.Context) error { return r.deployKubeconfig(ctx, shoot) }},
		step{"Deploying referenced resources", func(ctx context.Context) error { return r.deployReferencedResources(ctx, shoot) }},
		step{"Deploying extensions", extension.Deploy},
		step{"Waiting until extensions are ready", extension.Wait},
		step{"Deleting stale extensions", extension.DeleteStaleResources},
		step{"Waiting until stale extensions are deleted", extension.WaitCleanupStaleResources},
		step{"Deploying OperatingSystemConfigs", func(ctx context.Context) error { return r.deployOperatingSystemConfigs(ctx, shoot) }},
		step{"Waiting until the nodes have updated their operating system config", func(ctx context.Context) error { return r.updateNodes(ctx, shoot) }},
	)
}

// delete is the flow for the deletion of a Shoot: machines first, as in Gardener, then everything else.
func (r *Reconciler) delete(ctx context.Context, shoot *gardencorev1beta1.Shoot) error {
	extension := r.extensions(ctx, shoot)

	return inOrder(ctx,
		step{"Syncing the Cluster resource", func(ctx context.Context) error { return r.syncCluster(ctx, shoot) }},
		step{"Deleting machines", func(ctx context.Context) error { return r.deleteMachines(ctx) }},
		step{"Deleting OperatingSystemConfigs", func(ctx context.Context) error { return r.deleteOperatingSystemConfigs(ctx, shoot) }},
		step{"Deleting extensions", extension.Destroy},
		step{"Waiting until extensions are deleted", extension.WaitCleanup},
		step{"Deleting referenced resources", func(ctx context.Context) error { return r.destroyReferencedResources(ctx, shoot) }},
		step{"Deleting the namespace in the seed", func(ctx context.Context) error { return r.deleteNamespace(ctx, shoot) }},
	)
}

// care copies the conditions of the Shoot's Extensions to the Shoot.
func (r *Reconciler) care(ctx context.Context, shoot *gardencorev1beta1.Shoot) error {
	list := &extensionsv1alpha1.ExtensionList{}
	if err := r.Client.List(ctx, list, client.InNamespace(shoot.Status.TechnicalID)); err != nil {
		return fmt.Errorf("list Extensions of the Shoot: %w", err)
	}

	conditions := healthConditions(r.Clock, shoot.Status.Conditions, list.Items)
	if !v1beta1helper.ConditionsNeedUpdate(shoot.Status.Conditions, conditions) {
		return nil
	}
	return r.patchStatus(ctx, shoot, func() { shoot.Status.Conditions = conditions })
}

type step struct {
	name string
	run  func(context.Context) error
}

func inOrder(ctx context.Context, steps ...step) error {
	log := logf.FromContext(ctx)
	for _, s := range steps {
		log.Info(s.name)
		if err := s.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// syncCluster deploys the Cluster with the garden's objects, from which extensions read everything about the Shoot.
func (r *Reconciler) syncCluster(ctx context.Context, shoot *gardencorev1beta1.Shoot) error {
	profile, err := gardenerutils.GetCloudProfile(ctx, r.Client, shoot)
	if err != nil {
		return fmt.Errorf("read CloudProfile of the Shoot: %w", err)
	}
	return extensions.SyncClusterResourceToSeed(ctx, r.Client, shoot.Status.TechnicalID, shoot, profile, Seed())
}

// Seed returns the seed in the Cluster resource and the values of the extension's chart. It does not exist in the
// garden: without a gardenlet, Gardener would only report that it is not ready.
func Seed() *gardencorev1beta1.Seed {
	return &gardencorev1beta1.Seed{
		ObjectMeta: metav1.ObjectMeta{Name: "landscape"},
		Spec: gardencorev1beta1.SeedSpec{
			Provider: gardencorev1beta1.SeedProvider{Type: "local", Region: "local"},
		},
		Status: gardencorev1beta1.SeedStatus{ClusterIdentity: new("landscape-seed")},
	}
}

// updateNodes passes the configuration of every pool to gardener-node-agent. A hibernated Shoot has no nodes.
func (r *Reconciler) updateNodes(ctx context.Context, shoot *gardencorev1beta1.Shoot) error {
	if v1beta1helper.HibernationIsEnabled(shoot) {
		return r.deleteMachines(ctx)
	}

	ctx, cancel := context.WithTimeout(ctx, r.Patience.Timeout)
	defer cancel()

	var errs []error
	for _, worker := range shoot.Spec.Provider.Workers {
		secret, err := r.deployNodeAgentSecret(ctx, shoot, worker)
		if err != nil {
			return err
		}
		errs = append(errs, r.Node.Apply(ctx, client.ObjectKeyFromObject(secret)))
	}
	return errors.Join(errs...)
}

// deleteMachines removes the node's configuration and the Secrets that it came from.
func (r *Reconciler) deleteMachines(ctx context.Context) error {
	if err := r.Client.DeleteAllOf(ctx, &corev1.Secret{}, client.InNamespace(metav1.NamespaceSystem), operatingSystemConfigSecrets); err != nil {
		return fmt.Errorf("delete operating system configs of gardener-node-agent: %w", err)
	}
	return r.Node.Wipe(ctx)
}
