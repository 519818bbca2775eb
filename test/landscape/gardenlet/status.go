// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package gardenlet

import (
	"slices"

	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	gardenerutils "github.com/gardener/gardener/pkg/utils/gardener"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
)

// projectName is the project of the stand-in's Shoots; its namespace is ProjectNamespace.
const (
	projectName = "dev"
	// ProjectNamespace is the namespace of the project in the garden.
	ProjectNamespace = "garden-" + projectName
)

func hasFinalizer(shoot *gardencorev1beta1.Shoot) bool {
	return slices.Contains(shoot.Finalizers, gardencorev1beta1.GardenerName)
}

// needsOperation reports whether the Shoot has changed since the last operation, or that operation has not ended.
func needsOperation(shoot *gardencorev1beta1.Shoot) bool {
	last := shoot.Status.LastOperation
	if last == nil || shoot.Generation != shoot.Status.ObservedGeneration {
		return true
	}
	return last.State != gardencorev1beta1.LastOperationStateSucceeded && last.State != gardencorev1beta1.LastOperationStateFailed
}

func begin(clock clock.Clock, shoot *gardencorev1beta1.Shoot) {
	status := &shoot.Status
	status.TechnicalID = gardenerutils.ComputeTechnicalID(projectName, shoot)
	if status.UID == "" {
		status.UID = shoot.UID
	}
	status.Gardener = gardencorev1beta1.Gardener{ID: "stand-in", Name: "stand-in", Version: "v0.0.0"}
	status.ObservedGeneration = shoot.Generation
	status.LastOperation = operation(clock, v1beta1helper.ComputeOperationType(shoot.ObjectMeta, status.LastOperation),
		gardencorev1beta1.LastOperationStateProcessing, 0, "The stand-in for the gardenlet is reconciling the Shoot.")
}

func succeed(clock clock.Clock, shoot *gardencorev1beta1.Shoot) {
	status := &shoot.Status
	status.IsHibernated = v1beta1helper.HibernationIsEnabled(shoot)
	status.LastErrors = nil
	status.LastOperation = operation(clock, status.LastOperation.Type,
		gardencorev1beta1.LastOperationStateSucceeded, 100, "Shoot cluster has been successfully reconciled.")
}

func fail(clock clock.Clock, shoot *gardencorev1beta1.Shoot, err error) {
	status := &shoot.Status
	description := v1beta1helper.FormatLastErrDescription(err)
	lastError := v1beta1helper.LastError(description, v1beta1helper.ExtractErrorCodes(err)...)
	status.LastErrors = []gardencorev1beta1.LastError{*lastError}

	state := gardencorev1beta1.LastOperationStateError
	if v1beta1helper.HasNonRetryableErrorCode(*lastError) {
		state = gardencorev1beta1.LastOperationStateFailed
	}
	status.LastOperation = operation(clock, status.LastOperation.Type, state, status.LastOperation.Progress, description)
}

func operation(clock clock.Clock, kind gardencorev1beta1.LastOperationType, state gardencorev1beta1.LastOperationState, progress int32, description string) *gardencorev1beta1.LastOperation {
	return &gardencorev1beta1.LastOperation{
		Type:           kind,
		State:          state,
		Progress:       progress,
		Description:    description,
		LastUpdateTime: metav1.NewTime(clock.Now().UTC()),
	}
}

// healthConditions merges the conditions of the Extensions into those of the Shoot. Of several conditions of a type,
// the first one that is not true counts.
func healthConditions(clock clock.Clock, old []gardencorev1beta1.Condition, extensions []extensionsv1alpha1.Extension) []gardencorev1beta1.Condition {
	worst := map[gardencorev1beta1.ConditionType]gardencorev1beta1.Condition{}
	for _, extension := range extensions {
		for _, condition := range extension.Status.Conditions {
			if known, ok := worst[condition.Type]; !ok || known.Status == gardencorev1beta1.ConditionTrue {
				worst[condition.Type] = condition
			}
		}
	}

	conditions := old
	for kind, reported := range worst {
		condition := v1beta1helper.GetOrInitConditionWithClock(clock, old, kind)
		condition = v1beta1helper.UpdatedConditionWithClock(clock, condition, reported.Status, reported.Reason, reported.Message, reported.Codes...)
		conditions = v1beta1helper.MergeConditions(conditions, condition)
	}
	return conditions
}
