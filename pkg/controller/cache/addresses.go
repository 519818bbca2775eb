// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/cacheserver/config"
	component "github.com/larder-project/larder/pkg/component/cache"
)

// serviceAddresses returns the cluster IP of each cache's Service, by the name of the Service.
func serviceAddresses(ctx context.Context, shoot client.Client, caches []component.Values) (map[string]net.IP, error) {
	found := make(map[string]net.IP, len(caches))
	for _, cache := range caches {
		name, service := cache.ServiceName(), &corev1.Service{}
		if err := shoot.Get(ctx, client.ObjectKey{Namespace: component.Namespace, Name: name}, service); client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("read Service %s in the Shoot: %w", name, err)
		}
		if found[name] = net.ParseIP(service.Spec.ClusterIP); found[name] == nil {
			return nil, fmt.Errorf("the Service %s of cache %s has no cluster IP yet", name, cache.Cache.Upstream)
		}
	}
	return found, nil
}

// updateStatus says in the provider status where the caches are reached, and
// which credentials they should use. Package rotation may say at the same time
// that they do.
func (a *Actuator) updateStatus(ctx context.Context, ex *extensionsv1alpha1.Extension, caches []component.Values, addresses map[string]net.IP, caBundleName *string) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		present, before, err := a.credentialsStatus(ctx, ex)
		if err != nil {
			return err
		}
		patch := client.MergeFromWithOptions(present.DeepCopy(), client.MergeFromWithOptimisticLock{})
		if present.Status.ProviderStatus, err = a.providerStatus(before, caches, addresses, caBundleName); err != nil {
			return err
		}
		ex.Status.ProviderStatus = present.Status.ProviderStatus
		if err := a.Client.Status().Patch(ctx, present, patch); err != nil {
			return fmt.Errorf("could not update the provider status: %w", err)
		}
		return nil
	})
}

func (a *Actuator) providerStatus(before map[string]*registry.CredentialsStatus, caches []component.Values, addresses map[string]net.IP, caBundleName *string) (*runtime.RawExtension, error) {
	status := &registry.RegistryStatus{CASecretName: caBundleName}
	for _, cache := range caches {
		status.Caches = append(status.Caches, registry.RegistryCacheStatus{
			Upstream:    cache.Cache.Upstream,
			Endpoint:    endpoint(cache, addresses[cache.ServiceName()]),
			RemoteURL:   *cache.Cache.RemoteURL,
			Credentials: stagedStatus(before[cache.Cache.Upstream], cache, metav1.NewTime(a.Clock.Now())),
		})
	}
	return a.Codec.EncodeStatus(status)
}

func endpoint(cache component.Values, address net.IP) string {
	scheme := "http"
	if cache.ServesTLS() {
		scheme = "https"
	}
	endpoint := url.URL{Scheme: scheme, Host: net.JoinHostPort(address.String(), strconv.Itoa(config.Port))}
	return endpoint.String()
}
