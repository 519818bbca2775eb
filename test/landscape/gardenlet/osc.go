// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package gardenlet

import (
	"context"
	"fmt"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	nodeagentcomponent "github.com/gardener/gardener/pkg/component/extensions/operatingsystemconfig/original/components/nodeagent"
	"github.com/gardener/gardener/pkg/controllerutils"
	"github.com/gardener/gardener/pkg/extensions"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// operatingSystemConfigSecrets selects the Secrets of gardener-node-agent in the shoot.
var operatingSystemConfigSecrets = client.MatchingLabels{v1beta1constants.GardenRole: v1beta1constants.GardenRoleOperatingSystemConfig}

// purposes are in the order of the flow; only the last one is relevant for webhooks of this extension.
var purposes = []extensionsv1alpha1.OperatingSystemConfigPurpose{
	extensionsv1alpha1.OperatingSystemConfigPurposeProvision,
	extensionsv1alpha1.OperatingSystemConfigPurposeReconcile,
}

// poolKey returns the name of a worker pool's configuration in the shoot; in the seed, the purpose is appended.
func poolKey(worker gardencorev1beta1.Worker) string {
	return "gardener-node-agent-" + worker.Name
}

func operatingSystemConfigName(worker gardencorev1beta1.Worker, purpose extensionsv1alpha1.OperatingSystemConfigPurpose) string {
	if purpose == extensionsv1alpha1.OperatingSystemConfigPurposeProvision {
		return poolKey(worker) + "-init"
	}
	return poolKey(worker) + "-original"
}

// operatingSystemConfigSpec returns the configuration before any webhook.
func operatingSystemConfigSpec(worker gardencorev1beta1.Worker, purpose extensionsv1alpha1.OperatingSystemConfigPurpose) extensionsv1alpha1.OperatingSystemConfigSpec {
	return extensionsv1alpha1.OperatingSystemConfigSpec{
		DefaultSpec: extensionsv1alpha1.DefaultSpec{Type: worker.Machine.Image.Name},
		Purpose:     purpose,
		CRIConfig: &extensionsv1alpha1.CRIConfig{
			Name:       extensionsv1alpha1.CRINameContainerD,
			Containerd: &extensionsv1alpha1.ContainerdConfig{SandboxImage: "larder.test/pause"},
		},
		Units: []extensionsv1alpha1.Unit{{
			Name:    "landscape.service",
			Command: new(extensionsv1alpha1.CommandRestart),
			Enable:  new(true),
			Content: new("[Unit]\nDescription=Stands for the units that Gardener puts on a node\n[Service]\nExecStart=/bin/true\n"),
		}},
		Files: []extensionsv1alpha1.File{{
			Path:        v1beta1constants.OperatingSystemConfigFilePathKernelSettings,
			Permissions: new(uint32(0o644)),
			Content:     extensionsv1alpha1.FileContent{Inline: &extensionsv1alpha1.FileContentInline{Data: "net.ipv4.ip_forward = 1\n"}},
		}},
	}
}

func (r *Reconciler) deployOperatingSystemConfigs(ctx context.Context, shoot *gardencorev1beta1.Shoot) error {
	for _, worker := range shoot.Spec.Provider.Workers {
		for _, purpose := range purposes {
			if err := r.deployOperatingSystemConfig(ctx, shoot.Status.TechnicalID, worker, purpose); err != nil {
				return fmt.Errorf("deploy OperatingSystemConfig %s: %w", operatingSystemConfigName(worker, purpose), err)
			}
		}
	}
	return nil
}

// deployOperatingSystemConfig deploys the original configuration, in place of earlier changes by webhooks, and then the
// status that the operating system's extension would report.
func (r *Reconciler) deployOperatingSystemConfig(ctx context.Context, namespace string, worker gardencorev1beta1.Worker, purpose extensionsv1alpha1.OperatingSystemConfigPurpose) error {
	osc := &extensionsv1alpha1.OperatingSystemConfig{ObjectMeta: metav1.ObjectMeta{Name: operatingSystemConfigName(worker, purpose), Namespace: namespace}}
	if _, err := controllerutils.GetAndCreateOrMergePatch(ctx, r.Client, osc, func() error {
		metav1.SetMetaDataAnnotation(&osc.ObjectMeta, v1beta1constants.GardenerOperation, v1beta1constants.GardenerOperationReconcile)
		metav1.SetMetaDataAnnotation(&osc.ObjectMeta, v1beta1constants.GardenerTimestamp, r.Clock.Now().UTC().Format(time.RFC3339Nano))
		metav1.SetMetaDataLabel(&osc.ObjectMeta, v1beta1constants.LabelWorkerPool, worker.Name)
		osc.Spec = operatingSystemConfigSpec(worker, purpose)
		return nil
	}); err != nil {
		return err
	}

	patch := client.MergeFrom(osc.DeepCopy())
	delete(osc.Annotations, v1beta1constants.GardenerOperation)
	if err := r.Client.Patch(ctx, osc, patch); err != nil {
		return err
	}

	patch = client.MergeFrom(osc.DeepCopy())
	osc.Status.ObservedGeneration = osc.Generation
	osc.Status.LastOperation = operation(r.Clock, gardencorev1beta1.LastOperationTypeReconcile, gardencorev1beta1.LastOperationStateSucceeded, 100,
		"The stand-in has no operating system extension.")
	return r.Client.Status().Patch(ctx, osc, patch)
}

// deployNodeAgentSecret deploys the Secret of gardener-node-agent in the shoot, with the configuration after all
// webhooks.
func (r *Reconciler) deployNodeAgentSecret(ctx context.Context, shoot *gardencorev1beta1.Shoot, worker gardencorev1beta1.Worker) (*corev1.Secret, error) {
	osc := &extensionsv1alpha1.OperatingSystemConfig{}
	key := client.ObjectKey{Namespace: shoot.Status.TechnicalID, Name: operatingSystemConfigName(worker, extensionsv1alpha1.OperatingSystemConfigPurposeReconcile)}
	if err := r.Client.Get(ctx, key, osc); err != nil {
		return nil, fmt.Errorf("read OperatingSystemConfig %s: %w", key, err)
	}

	desired, err := nodeagentcomponent.OperatingSystemConfigSecret(ctx, r.Client, osc, poolKey(worker), worker.Name, true)
	if err != nil {
		return nil, fmt.Errorf("build Secret of pool %s: %w", worker.Name, err)
	}

	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: desired.Name, Namespace: desired.Namespace}}
	_, err = controllerutils.GetAndCreateOrMergePatch(ctx, r.Client, secret, func() error {
		secret.Annotations, secret.Labels, secret.Data = desired.Annotations, desired.Labels, desired.Data
		return nil
	})
	return secret, err
}

func (r *Reconciler) deleteOperatingSystemConfigs(ctx context.Context, shoot *gardencorev1beta1.Shoot) error {
	return extensions.DeleteExtensionObjects(ctx, r.Client, &extensionsv1alpha1.OperatingSystemConfigList{}, shoot.Status.TechnicalID, nil)
}
