// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	extensionsconfigv1alpha1 "github.com/gardener/gardener/extensions/pkg/apis/config/v1alpha1"
	"github.com/gardener/gardener/extensions/pkg/util"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/credentials"
)

const (
	// answerTimeout bounds the wait for one replica. The way leads through the Shoot's API server and the VPN.
	answerTimeout = 5 * time.Second
	// maxConcurrentReports is how many replicas of a Shoot are asked at a time.
	maxConcurrentReports = 20
	// maxReport is more than any report has.
	maxReport = 16 << 10
)

// Shoots asks the replicas of caches, through the API servers of their Shoots.
type Shoots struct {
	// Client is a client for the seed, where the kubeconfigs are.
	Client client.Client
}

// Replicas returns the replicas of the caches in a Shoot by the caches' names.
func (s *Shoots) Replicas(ctx context.Context, namespace string) (map[string]Replicas, error) {
	restConfig, _, err := util.NewClientForShoot(ctx, s.Client, namespace, client.Options{}, extensionsconfigv1alpha1.RESTOptions{})
	if err != nil {
		return nil, fmt.Errorf("could not create a client for the Shoot: %w", err)
	}
	restConfig.QPS = -1 // The API server is fair by itself, and waiting here would count as a replica's silence.
	shoot, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		return nil, fmt.Errorf("could not create a client for the Shoot: %w", err)
	}
	selection := metav1.ListOptions{LabelSelector: component.Selector}
	statefulSets, err := shoot.AppsV1().StatefulSets(component.Namespace).List(ctx, selection)
	if err != nil {
		return nil, fmt.Errorf("could not list the StatefulSets of the caches in the Shoot: %w", err)
	}
	pods, err := shoot.CoreV1().Pods(component.Namespace).List(ctx, selection)
	if err != nil {
		return nil, fmt.Errorf("could not list the pods of the caches in the Shoot: %w", err)
	}

	found := make(map[string]Replicas, len(statefulSets.Items))
	for _, statefulSet := range statefulSets.Items {
		found[statefulSet.Name] = Replicas{Wanted: *statefulSet.Spec.Replicas}
	}
	for i, report := range reports(ctx, shoot, pods.Items) {
		if pod := &pods.Items[i]; runs(pod) {
			replicas := found[component.NameOf(pod)]
			replicas.Running = append(replicas.Running, Replica{Name: pod.Name, Report: report})
			found[component.NameOf(pod)] = replicas
		}
	}
	return found, nil
}

func runs(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil
}

// reports asks all pods, many at a time.
func reports(ctx context.Context, shoot kubernetes.Interface, pods []corev1.Pod) []*credentials.Report {
	answers := make([]*credentials.Report, len(pods))
	var group errgroup.Group
	group.SetLimit(maxConcurrentReports)
	for i := range pods {
		if runs(&pods[i]) {
			group.Go(func() error {
				answers[i] = report(ctx, shoot, pods[i].Name)
				return nil
			})
		}
	}
	_ = group.Wait() // There are no errors.
	return answers
}

// report returns what a replica says, or nil. Why it does not is not told: the
// owner learns from the pod itself why that does not run.
func report(ctx context.Context, shoot kubernetes.Interface, pod string) *credentials.Report {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	body, err := shoot.CoreV1().Pods(component.Namespace).
		ProxyGet("http", pod, strconv.Itoa(config.DebugPort), config.CredentialsPath, nil).Stream(ctx)
	if err != nil {
		return nil
	}
	defer body.Close()
	answer := &credentials.Report{}
	if json.NewDecoder(io.LimitReader(body, maxReport)).Decode(answer) != nil {
		return nil
	}
	return answer
}
