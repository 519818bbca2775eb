// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
)

// reconcile requests a reconciliation and returns how long it takes.
func (b *bench) reconcile(ctx context.Context, shoot *shoot) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, b.storm)
	defer cancel()
	start := time.Now()
	if err := shoot.request(ctx, b.server.client); err != nil {
		return 0, err
	}
	if err := shoot.await(ctx, b.server.client); err != nil {
		return 0, fmt.Errorf("wait for the reconciliation of %s: %w", shoot.namespace, err)
	}
	return time.Since(start), nil
}

// awaitAll waits until all healthy Shoots are reconciled.
func (b *bench) awaitAll(ctx context.Context) error {
	return b.awaitExtensions(ctx, "reconciled", succeeded)
}

// awaitSettled waits until the caches of all healthy Shoots use their credentials.
func (b *bench) awaitSettled(ctx context.Context) error {
	return b.awaitExtensions(ctx, "settled", func(ex *extensionsv1alpha1.Extension) bool {
		status := &v1alpha3.RegistryStatus{}
		if ex.Status.ProviderStatus == nil || json.Unmarshal(ex.Status.ProviderStatus.Raw, status) != nil || len(ex.Status.Conditions) == 0 {
			return false
		}
		return !slices.ContainsFunc(status.Caches, func(cache v1alpha3.RegistryCacheStatus) bool {
			return cache.Credentials != nil && cache.Credentials.State != v1alpha3.CredentialsActive
		})
	})
}

func (b *bench) awaitExtensions(ctx context.Context, state string, done func(*extensionsv1alpha1.Extension) bool) error {
	left, reported := b.size, time.Now()
	err := wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, b.storm, false, func(ctx context.Context) (bool, error) {
		extensions := &extensionsv1alpha1.ExtensionList{}
		// The API server lists from memory.
		if err := b.server.client.List(ctx, extensions, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: "0"}}); err != nil {
			return false, err
		}
		left = b.size
		for _, ex := range extensions.Items {
			if done(&ex) {
				left--
			}
		}
		if time.Since(reported) > 10*time.Second {
			progress("%d of %d Shoots %s", b.size-left, b.size, state)
			reported = time.Now()
		}
		return left <= 0, nil
	})
	if wait.Interrupted(err) && ctx.Err() == nil {
		return fmt.Errorf("%d of %d Shoots are not %s after %s", left, b.size, state, b.storm)
	}
	return err
}

// requests returns the requests since the last call that match.
func (b *bench) requests(matches func(record) bool) (counts, error) {
	requests, err := b.server.audit.Read()
	result := counts{}
	for _, request := range requests {
		if record := newRecord(request); matches(record) {
			result[record.request]++
		}
	}
	return result, err
}

// spent returns the CPU seconds of the leader and all requests since the last call.
func (b *bench) spent() (cpu float64, requests counts, err error) {
	if cpu, err = b.leader.cpu(); err != nil {
		return 0, nil, err
	}
	requests, err = b.requests(func(record) bool { return true })
	return cpu, requests, err
}

func sleep(ctx context.Context, duration time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(duration):
		return nil
	}
}
