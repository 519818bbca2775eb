// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// port of DNS.
const port = "53"

// Run serves the handler at its address and on the loopback address until ctx is done. Services come from the cluster.
func Run(ctx context.Context, config *rest.Config, domain, clusterDomain string, address netip.Addr) error {
	services, err := cache.New(config, cache.Options{Scheme: scheme.Scheme})
	if err != nil {
		return fmt.Errorf("watch Services: %w", err)
	}
	handler := &Handler{
		Domain:        domain,
		Address:       address,
		ClusterDomain: clusterDomain,
		Services:      &Cluster{Reader: services},
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return services.Start(ctx) })
	group.Go(func() error { return Serve(ctx, handler, address.String()+":"+port, "127.0.0.1:"+port) })
	return group.Wait()
}
