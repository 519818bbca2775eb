// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/cluster"
	"github.com/larder-project/larder/test/landscape/dns"
	"github.com/larder-project/larder/test/landscape/gardenlet"
	"github.com/larder-project/larder/test/landscape/sandbox"
	"github.com/larder-project/larder/test/landscape/supervisor"
	"github.com/larder-project/larder/test/landscape/upstream"
	"github.com/larder-project/larder/test/landscape/volumes"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/upstreamsim"
)

// roles are the functions of this program inside the namespaces.
var roles = map[string]func(context.Context, *landscape.Landscape) error{
	landscape.InitRole: runInit,
	cluster.DNS:        runDNS,
	cluster.Volumes:    runVolumes,
	cluster.Upstreams:  runUpstreams,
	cluster.Gardenlet:  gardenlet.Run,
}

func roleCommands() []*cobra.Command {
	commands := make([]*cobra.Command, 0, len(roles))
	for name, run := range roles {
		commands = append(commands, &cobra.Command{
			Use:    name,
			Hidden: true,
			Args:   cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				l, err := landscape.Open()
				if err != nil {
					return err
				}
				return run(cmd.Context(), l)
			},
		})
	}
	return commands
}

// runInit is the first process of the namespaces. Its end is the end of all others.
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
	logf.SetLogger(zap.New())
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
	logf.SetLogger(zap.New())
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

func runUpstreams(ctx context.Context, l *landscape.Landscape) error {
	certificate, key, err := l.CA()
	if err != nil {
		return err
	}
	authority, err := pki.ParseAuthority(pki.Pair{Certificate: certificate, Key: key})
	if err != nil {
		return err
	}
	options := upstream.Options{
		Dir:       l.UpstreamsDir(),
		Authority: authority,
		Private:   endpoint(l, "private", landscape.PrivatePort),
		Token:     endpoint(l, "auth", landscape.TokenPort),
		Basic:     endpoint(l, "basic", landscape.BasicPort),
		Log:       os.Stdout,

		PullersFile: l.PullersFile(),
	}
	if options.Puller.Username, options.Puller.Password, err = l.Puller(); err != nil {
		return err
	}
	if options.Pusher.Username, options.Pusher.Password, err = l.Pusher(); err != nil {
		return err
	}
	return upstream.Run(ctx, options)
}

func endpoint(l *landscape.Landscape, name string, port int) upstreamsim.Endpoint {
	return upstreamsim.Endpoint{
		Listen: net.JoinHostPort(l.IP(), strconv.Itoa(port)),
		Host:   net.JoinHostPort(name+"."+landscape.Domain, strconv.Itoa(port)),
	}
}
