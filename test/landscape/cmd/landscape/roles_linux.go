// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/cluster"
	"github.com/larder-project/larder/test/landscape/dns"
	"github.com/larder-project/larder/test/landscape/sandbox"
	"github.com/larder-project/larder/test/landscape/supervisor"
	"github.com/larder-project/larder/test/landscape/volumes"
)

// roles are what this program does inside the namespaces.
var roles = map[string]func(context.Context, *landscape.Landscape) error{
	landscape.InitRole: runInit,
	cluster.DNS:        runDNS,
	cluster.Volumes:    runVolumes,
}

// runInit is the first process: it outlives all others.
func runInit(ctx context.Context, l *landscape.Landscape) error {
	if err := sandbox.Isolate(l); err != nil {
		return err
	}
	specs, err := cluster.LoadSpecs(l)
	if err != nil {
		return err
	}
	processes := supervisor.New(specs, l.LogDir())
	go processes.Reap(ctx)

	listener, err := net.Listen("unix", landscape.ControlSocket)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: processes.Handler(), ReadHeaderTimeout: time.Minute}
	return server.Serve(listener)
}

func runDNS(ctx context.Context, l *landscape.Landscape) error {
	config, err := l.RESTConfig()
	if err != nil {
		return err
	}
	address, err := netip.ParseAddr(l.IP())
	if err != nil {
		return err
	}
	return dns.Run(ctx, config, landscape.Domain, landscape.ClusterDomain, address)
}

func runVolumes(ctx context.Context, l *landscape.Landscape) error {
	config, err := l.RESTConfig()
	if err != nil {
		return err
	}
	return volumes.Run(ctx, config, volumes.Options{
		Dir:           landscape.VolumesDir,
		Node:          landscape.NodeName,
		HealthAddress: cluster.VolumesHealthAddress,
	})
}
