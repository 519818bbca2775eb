// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// workloadNamespace is the namespace of the owner's pods.
	workloadNamespace = metav1.NamespaceDefault

	pollInterval = 250 * time.Millisecond
	pullTimeout  = 5 * time.Minute
)

// Pod returns a pod of an image, without credentials.
func Pod(name, image string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: workloadNamespace},
		Spec: corev1.PodSpec{
			Containers:                    []corev1.Container{{Name: "hello", Image: image, ImagePullPolicy: corev1.PullIfNotPresent}},
			AutomountServiceAccountToken:  new(false),
			TerminationGracePeriodSeconds: new(int64(1)),
		},
	}
}

// Run creates the pod and waits until its container runs.
func Run(ctx context.Context, c client.Client, pod *corev1.Pod) error {
	if err := Delete(ctx, c, pod); err != nil {
		return err
	}
	if err := c.Create(ctx, pod); err != nil {
		return fmt.Errorf("create pod %s: %w", pod.Name, err)
	}
	err := wait.PollUntilContextTimeout(ctx, pollInterval, pullTimeout, true, func(ctx context.Context) (bool, error) {
		return Running(pod), c.Get(ctx, client.ObjectKeyFromObject(pod), pod)
	})
	if err != nil {
		return fmt.Errorf("wait for pod %s (%s): %w", pod.Name, WaitingFor(pod), err)
	}
	return nil
}

// Running reports whether the pod's container runs.
func Running(pod *corev1.Pod) bool {
	statuses := pod.Status.ContainerStatuses
	return len(statuses) == 1 && statuses[0].State.Running != nil
}

// WaitingFor returns why the pod's container is not running.
func WaitingFor(pod *corev1.Pod) string {
	for _, status := range pod.Status.ContainerStatuses {
		if waiting := status.State.Waiting; waiting != nil {
			return strings.TrimSpace(waiting.Reason + " " + waiting.Message)
		}
	}
	return string(pod.Status.Phase)
}

// Delete deletes the pod of that name if it exists, and waits until it is also gone from the node.
func Delete(ctx context.Context, c client.Client, pod *corev1.Pod) error {
	key := client.ObjectKeyFromObject(pod)
	old := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: key.Name, Namespace: key.Namespace}}
	if err := client.IgnoreNotFound(c.Delete(ctx, old)); err != nil {
		return fmt.Errorf("delete pod %s: %w", key, err)
	}
	return wait.PollUntilContextTimeout(ctx, pollInterval, pullTimeout, true, func(ctx context.Context) (bool, error) {
		err := c.Get(ctx, key, old)
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	})
}
