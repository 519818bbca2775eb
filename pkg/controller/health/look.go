// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/controller/credentialstate"
	"github.com/larder-project/larder/pkg/controller/shoot"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/excerpt"
)

const (
	// replicasTimeout bounds the wait for all replicas of a Shoot, so that unresponsive pods do not block the
	// controller. Requests go through the Shoot's API server and the VPN.
	replicasTimeout = 5 * time.Second
	// maxConcurrentReports bounds the concurrent requests to the replicas of a Shoot.
	maxConcurrentReports = 20
	// maxMessage bounds a replica's message in the provider status, and so in a condition and an event.
	maxMessage = 256
)

// Shoots reads the replicas of caches through the API servers of their Shoots.
type Shoots struct {
	// Client is a client for the seed, which has the kubeconfigs.
	Client client.Client
	// Timeout bounds the wait for the reports of all replicas of a Shoot.
	Timeout time.Duration
}

// Replicas implements ReplicaReader. It finds pods by name, so that other pods with the labels of a cache are not
// asked.
func (s *Shoots) Replicas(ctx context.Context, namespace string, caches []string) (map[string]credentialstate.Replicas, error) {
	access, err := shoot.Connect(ctx, s.Client, namespace)
	if err != nil {
		return nil, err
	}
	found := make(map[string]credentialstate.Replicas, len(caches))
	for _, cache := range caches {
		if found[cache], err = running(ctx, access, cache); err != nil {
			return nil, err
		}
	}
	s.addReports(ctx, access, found)
	return found, nil
}

// running returns the running replicas of a cache, without reports.
func running(ctx context.Context, access client.Client, cache string) (credentialstate.Replicas, error) {
	statefulSet := &appsv1.StatefulSet{}
	if err := access.Get(ctx, client.ObjectKey{Namespace: component.Namespace, Name: cache}, statefulSet); apierrors.IsNotFound(err) {
		return credentialstate.Replicas{}, nil
	} else if err != nil {
		return credentialstate.Replicas{}, fmt.Errorf("read StatefulSet %s in the Shoot: %w", cache, err)
	}
	replicas := credentialstate.Replicas{Desired: min(ptr.Deref(statefulSet.Spec.Replicas, 1), component.MaxReplicas)}
	for ordinal := range int(replicas.Desired) {
		pod := &corev1.Pod{}
		key := client.ObjectKey{Namespace: component.Namespace, Name: component.PodName(cache, ordinal)}
		if err := access.Get(ctx, key, pod); client.IgnoreNotFound(err) != nil {
			return credentialstate.Replicas{}, fmt.Errorf("read pod %s in the Shoot: %w", key.Name, err)
		}
		if runs(pod) {
			replicas.Running = append(replicas.Running, credentialstate.Replica{Name: key.Name})
		}
	}
	return replicas, nil
}

func runs(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil
}

// addReports adds the reports to the replicas, in random order, so that unresponsive replicas do not always use up the
// time of the same others.
func (s *Shoots) addReports(ctx context.Context, access *shoot.Shoot, caches map[string]credentialstate.Replicas) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	var asked []*credentialstate.Replica
	for _, replicas := range caches {
		for i := range replicas.Running {
			asked = append(asked, &replicas.Running[i])
		}
	}
	var group errgroup.Group
	group.SetLimit(maxConcurrentReports)
	for _, replica := range asked {
		group.Go(func() error {
			replica.Report = report(ctx, access, replica.Name)
			return nil
		})
	}
	_ = group.Wait() // The functions return no errors.
}

// report returns the report of a replica, nil if there is none. Its errors are dropped: the pod itself shows the owner
// why it does not work.
func report(ctx context.Context, access *shoot.Shoot, pod string) *credentials.Report {
	content, err := access.GetFromPod(ctx, client.ObjectKey{Namespace: component.Namespace, Name: pod}, config.DebugPort, config.CredentialsPath)
	if err != nil {
		return nil
	}
	report := &credentials.Report{}
	if json.Unmarshal(content, report) != nil {
		return nil
	}
	report.Message = excerpt.Line(report.Message, maxMessage)
	return report
}
