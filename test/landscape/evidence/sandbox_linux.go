// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"encoding/json"
	"fmt"
	"net"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/larder-project/larder/test/landscape"
)

// podUIDLabel is the label of a pod's sandbox and containers in containerd.
const podUIDLabel = "io.kubernetes.pod.uid"

// PodDialer returns a dialer for IP addresses, including cluster IPs, inside of the network of a running pod.
func PodDialer(ctx context.Context, l *landscape.Landscape, pod *corev1.Pod) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	first, err := l.FirstProcess()
	if err != nil {
		return nil, err
	}
	sandboxes, err := runtimeService(ctx, l)
	if err != nil {
		return nil, err
	}
	found, err := sandboxes.ListPodSandbox(ctx, &runtimeapi.PodSandboxFilter{
		LabelSelector: map[string]string{podUIDLabel: string(pod.UID)},
		State:         &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY},
	})
	if err != nil {
		return nil, fmt.Errorf("list sandboxes of pod %s: %w", pod.Name, err)
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("expected one sandbox of pod %s, found %d", pod.Name, len(found))
	}
	response, err := sandboxes.PodSandboxStatus(ctx, found[0].Id, true)
	if err != nil {
		return nil, fmt.Errorf("read status of the sandbox of pod %s: %w", pod.Name, err)
	}
	var info struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal([]byte(response.Info["info"]), &info); err != nil {
		return nil, fmt.Errorf("decode status of the sandbox of pod %s: %w", pod.Name, err)
	}
	// The process ID is that in the landscape, whose /proc is below the root of its first process.
	network := fmt.Sprintf("/proc/%d/root%s", first, networkOf(info.PID))
	return func(ctx context.Context, protocol, address string) (net.Conn, error) {
		return inNetwork(network, func() (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, protocol, address) })
	}, nil
}

// Execute runs a command in the only container of a pod, and returns its output.
func Execute(ctx context.Context, l *landscape.Landscape, pod *corev1.Pod, command ...string) (string, error) {
	containers, err := runtimeService(ctx, l)
	if err != nil {
		return "", err
	}
	found, err := containers.ListContainers(ctx, &runtimeapi.ContainerFilter{
		LabelSelector: map[string]string{podUIDLabel: string(pod.UID)},
		State:         &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING},
	})
	if err != nil {
		return "", fmt.Errorf("list containers of pod %s: %w", pod.Name, err)
	}
	if len(found) != 1 {
		return "", fmt.Errorf("expected one running container of pod %s, found %d", pod.Name, len(found))
	}
	stdout, stderr, err := containers.ExecSync(ctx, found[0].Id, command, criTimeout)
	if err != nil {
		return "", fmt.Errorf("run %s in pod %s: %w\n%s%s", command[0], pod.Name, err, stdout, stderr)
	}
	return string(stdout), nil
}
