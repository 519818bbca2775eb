// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package readiness

import (
	"cmp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/larder-project/larder/pkg/excerpt"
)

// crashMemory is how long a pod that is not ready counts as crashing after its last crash. It exceeds the longest delay
// of the kubelet before a restart. A crash that is as far in the future counts as old, since a clock has changed.
const crashMemory = 10 * time.Minute

// Volume is the volume of a replica whose pod is pending.
type Volume struct {
	// Claim is nil if it does not exist.
	Claim *corev1.PersistentVolumeClaim
	// Class is the StorageClass that the claim names, nil if it names none or one that does not exist.
	Class *storagev1.StorageClass
}

// Pod returns the problem of a replica as Kubernetes sees it. The pod is nil if it does not exist.
func Pod(name string, pod *corev1.Pod, volume Volume, now time.Time) Problem {
	switch {
	case pod == nil:
		return problemf(ReplicaMissing, "Pod %s does not exist. The events of its StatefulSet show the reason.", name)
	case pod.DeletionTimestamp != nil:
		return problemf(ReplicaMissing, "Pod %s is being deleted. If it stays, its node may be down.", name)
	case pod.Status.Phase == corev1.PodFailed, pod.Status.Phase == corev1.PodSucceeded:
		return problemf(ReplicaMissing, "Pod %s has ended (%s). Its events show the reason.", name, quote(cmp.Or(pod.Status.Reason, string(pod.Status.Phase))))
	case podCondition(pod, corev1.PodReady).Status == corev1.ConditionTrue:
		return Problem{}
	}
	if pod.Status.Phase == corev1.PodPending {
		if problem := volumeOf(name, volume); problem != (Problem{}) {
			return problem
		}
		if scheduled := podCondition(pod, corev1.PodScheduled); scheduled.Status == corev1.ConditionFalse {
			return problemf(Unschedulable, "Pod %s cannot be scheduled: %s. Add nodes that can run it.", name, quote(cmp.Or(scheduled.Message, scheduled.Reason)))
		}
	}
	if problem := containers(name, pod, now); problem != (Problem{}) {
		return problem
	}
	return problemf(ReplicaNotReady, "Pod %s is not ready%s. Its events and its log show the reason.", name, waiting(pod))
}

// volumeOf returns the problem of a claim that is not bound. A claim that waits for the first consumer is not the problem
// until the scheduler has chosen a node for the pod: without a node, there is no volume.
func volumeOf(pod string, volume Volume) Problem {
	claim := volume.Claim
	if claim == nil {
		return Problem{}
	}
	switch claim.Status.Phase {
	case corev1.ClaimBound:
		return Problem{}
	case corev1.ClaimLost:
		return problemf(NoVolume, "Claim %s has lost its volume. Delete the claim and pod %s; the cache then starts with an empty volume.", claim.Name, pod)
	}
	const reconfigure = "or remove the cache and add it again with another volume.storageClassName"
	if claim.Spec.StorageClassName == nil || *claim.Spec.StorageClassName == "" {
		if claim.Spec.VolumeName != "" {
			return problemf(NoVolume, "Claim %s waits for volume %s. Its events show the reason.", claim.Name, quote(claim.Spec.VolumeName))
		}
		return problemf(NoVolume, "Claim %s has no StorageClass. Mark a StorageClass of the cluster as the default, %s.", claim.Name, reconfigure)
	}
	switch class := volume.Class; {
	case class == nil:
		return problemf(NoVolume, "The StorageClass %q of claim %s does not exist. Create it, %s.", quote(*claim.Spec.StorageClassName), claim.Name, reconfigure)
	case class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer && claim.Annotations[annotationSelectedNode] == "":
		return Problem{}
	}
	return problemf(NoVolume, "Claim %s waits for a volume of the StorageClass %q. Its events show the reason, such as an exceeded quota.", claim.Name, quote(*claim.Spec.StorageClassName))
}

// annotationSelectedNode is set by the scheduler when it has chosen the node for the pod of a claim.
const annotationSelectedNode = "volume.kubernetes.io/selected-node"

// containers returns the problem of the first container that has one.
func containers(pod string, object *corev1.Pod, now time.Time) Problem {
	for _, statuses := range [][]corev1.ContainerStatus{object.Status.InitContainerStatuses, object.Status.ContainerStatuses} {
		for _, status := range statuses {
			if pullFails(status.State.Waiting) {
				// The kubelet alternates between two messages, so neither is quoted.
				return problemf(ImagePullFailed, "Pod %s cannot pull its image %s. Its events show the reason: its node must be able to reach the registry of the image.", pod, quote(status.Image))
			}
			if crash := lastCrash(status, now); crash != nil {
				return crashing(pod, crash)
			}
		}
	}
	return Problem{}
}

func pullFails(waiting *corev1.ContainerStateWaiting) bool {
	if waiting == nil {
		return false
	}
	switch waiting.Reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed":
		return true
	}
	return false
}

// lastCrash returns how a container that is not ready ended last, nil if that was too long ago to be the reason.
func lastCrash(status corev1.ContainerStatus, now time.Time) *corev1.ContainerStateTerminated {
	crash := cmp.Or(status.State.Terminated, status.LastTerminationState.Terminated)
	backsOff := status.State.Waiting != nil && status.State.Waiting.Reason == "CrashLoopBackOff"
	switch {
	case backsOff && crash == nil:
		return &corev1.ContainerStateTerminated{}
	case backsOff:
		return crash
	case status.Ready || crash == nil || crash.ExitCode == 0 || now.Sub(crash.FinishedAt.Time).Abs() > crashMemory:
		return nil
	}
	return crash
}

func crashing(pod string, crash *corev1.ContainerStateTerminated) Problem {
	if crash.Reason == "OOMKilled" {
		return problemf(Crashing, "Pod %s crashes because memory ran out (OOMKilled): that of its node, or its own limit if one is set. Use nodes with more memory, or raise the limit that a LimitRange or the vertical pod autoscaler sets.", pod)
	}
	return problemf(Crashing, `Pod %s crashes with exit code %d. "kubectl -n kube-system logs %[1]s --previous" shows the reason.`, pod, crash.ExitCode)
}

// waiting returns the reason for which the first waiting container waits, in parentheses after a space.
func waiting(pod *corev1.Pod) string {
	for _, status := range pod.Status.ContainerStatuses {
		if status.State.Waiting != nil && status.State.Waiting.Reason != "" {
			return " (" + quote(status.State.Waiting.Reason) + ")"
		}
	}
	return ""
}

// podCondition returns the condition of the given type, the zero value if there is none.
func podCondition(pod *corev1.Pod, conditionType corev1.PodConditionType) corev1.PodCondition {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == conditionType {
			return condition
		}
	}
	return corev1.PodCondition{}
}

// quote bounds a text from the Shoot, and drops the full stop at its end, since the text becomes part of a sentence.
func quote(text string) string {
	return strings.TrimSuffix(strings.TrimSpace(excerpt.Line(text, maxQuote)), ".")
}
