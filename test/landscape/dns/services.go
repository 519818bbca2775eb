// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Cluster reads Services from a cluster; its reader should be a cache.
type Cluster struct {
	Reader client.Reader
}

// Addresses implements Services.
func (c *Cluster) Addresses(ctx context.Context, namespace, name, hostname string) ([]netip.Addr, bool, error) {
	service := &corev1.Service{}
	err := c.Reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, service)
	if apierrors.IsNotFound(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if service.Spec.ClusterIP == corev1.ClusterIPNone || hostname != "" {
		return c.endpoints(ctx, service, hostname)
	}
	return parse(service.Spec.ClusterIPs), true, nil
}

// endpoints returns the addresses of a headless Service's pods.
func (c *Cluster) endpoints(ctx context.Context, service *corev1.Service, hostname string) ([]netip.Addr, bool, error) {
	slicesOfService := &discoveryv1.EndpointSliceList{}
	if err := c.Reader.List(ctx, slicesOfService, client.InNamespace(service.Namespace),
		client.MatchingLabels{discoveryv1.LabelServiceName: service.Name}); err != nil {
		return nil, false, err
	}
	var addresses []netip.Addr
	for _, slice := range slicesOfService.Items {
		for _, endpoint := range slice.Endpoints {
			if !service.Spec.PublishNotReadyAddresses && !ready(endpoint) {
				continue
			}
			if hostname == "" || endpoint.Hostname != nil && *endpoint.Hostname == hostname {
				addresses = append(addresses, parse(endpoint.Addresses)...)
			}
		}
	}
	return addresses, hostname == "" || len(addresses) > 0, nil
}

func ready(endpoint discoveryv1.Endpoint) bool {
	return endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready
}

// parse returns the IPv4 addresses.
func parse(texts []string) []netip.Addr {
	var addresses []netip.Addr
	for _, text := range texts {
		if address, err := netip.ParseAddr(text); err == nil && address.Is4() {
			addresses = append(addresses, address)
		}
	}
	return slices.Clip(addresses)
}
