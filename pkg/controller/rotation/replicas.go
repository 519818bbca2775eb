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
	"github.com/larder-project/larder/pkg/controller/excerpt"
	"github.com/larder-project/larder/pkg/controller/shoot"
	"github.com/larder-project/larder/pkg/credentials"
)

const (
	// answerTimeout bounds the wait for all replicas of a Shoot, so that pods which never answer do not hold the
	// controller. The way leads through the Shoot's API server and the VPN.
	answerTimeout = 5 * time.Second
	// maxConcurrentReports is how many replicas of a Shoot are asked at a time.
	maxConcurrentReports = 20
	// maxMessage is how much of a replica's message goes into the provider status, from where it goes on into a
	// condition and an event.
	maxMessage = 256
)

// Shoots asks the replicas of caches, through the API servers of their Shoots.
type Shoots struct {
	// Client is a client for the seed, where the kubeconfigs are.
	Client client.Client
	// AnswerTimeout bounds the wait for all replicas of a Shoot.
	AnswerTimeout time.Duration
}

// Replicas returns the replicas of the caches with the given names. It asks no
// more pods than there should be, whatever else bears the labels of a cache.
func (s *Shoots) Replicas(ctx context.Context, namespace string, caches []string) (map[string]Replicas, error) {
	access, err := shoot.Connect(ctx, s.Client, namespace)
	if err != nil {
		return nil, err
	}
	found := make(map[string]Replicas, len(caches))
	for _, cache := range caches {
		if found[cache], err = running(ctx, access, cache); err != nil {
			return nil, err
		}
	}
	s.ask(ctx, access, found)
	return found, nil
}

// running returns the replicas of a cache that run, without their reports.
func running(ctx context.Context, access client.Client, cache string) (Replicas, error) {
	statefulSet := &appsv1.StatefulSet{}
	if err := access.Get(ctx, client.ObjectKey{Namespace: component.Namespace, Name: cache}, statefulSet); apierrors.IsNotFound(err) {
		return Replicas{}, nil
	} else if err != nil {
		return Replicas{}, fmt.Errorf("read StatefulSet %s in the Shoot: %w", cache, err)
	}
	replicas := Replicas{Wanted: min(ptr.Deref(statefulSet.Spec.Replicas, 1), component.MaxReplicas)}
	for ordinal := range int(replicas.Wanted) {
		pod := &corev1.Pod{}
		key := client.ObjectKey{Namespace: component.Namespace, Name: component.PodName(cache, ordinal)}
		if err := access.Get(ctx, key, pod); client.IgnoreNotFound(err) != nil {
			return Replicas{}, fmt.Errorf("read pod %s in the Shoot: %w", key.Name, err)
		}
		if runs(pod) {
			replicas.Running = append(replicas.Running, Replica{Name: key.Name})
		}
	}
	return replicas, nil
}

func runs(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil
}

// ask adds their reports to the replicas, in the random order of a map, so that replicas which never answer do not always
// use up the time of the same others.
func (s *Shoots) ask(ctx context.Context, access *shoot.Shoot, caches map[string]Replicas) {
	ctx, cancel := context.WithTimeout(ctx, s.AnswerTimeout)
	defer cancel()
	var asked []*Replica
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
	_ = group.Wait() // There are no errors.
}

// report returns what a replica says, or nil. Why it does not is not told: the
// owner learns from the pod itself why that does not run.
func report(ctx context.Context, access *shoot.Shoot, pod string) *credentials.Report {
	answer, err := access.Ask(ctx, client.ObjectKey{Namespace: component.Namespace, Name: pod}, config.DebugPort, config.CredentialsPath)
	if err != nil {
		return nil
	}
	report := &credentials.Report{}
	if json.Unmarshal(answer, report) != nil {
		return nil
	}
	report.Message = excerpt.Line(report.Message, maxMessage)
	return report
}
