// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/cluster"
	"github.com/larder-project/larder/test/landscape/parts"
	"github.com/larder-project/larder/test/landscape/progress"
	"github.com/larder-project/larder/test/landscape/steps"
)

// Steps that are not the start of a process.
const (
	pauseImage  = "the pause image"
	objects     = "the objects of the cluster"
	gardenerAPI = "Gardener's API"
	node        = "the node"
)

// start starts all processes in the order of their dependencies and waits until
// the node is ready. What runs already is left alone, so it also mends.
func start(ctx context.Context, l *landscape.Landscape, log *progress.Log, built builds) error {
	process := func(name string, after ...string) steps.Step {
		return step(log, "Start "+name, name, after, func(ctx context.Context) error {
			return l.StartProcess(ctx, name)
		})
	}
	return steps.Run(ctx, []steps.Step{
		process(parts.Etcd),
		process(parts.KubeAPIServer, parts.Etcd),
		process(parts.KubeControllerManager, parts.KubeAPIServer),
		process(parts.KubeScheduler, parts.KubeAPIServer),
		process(cluster.DNS, parts.KubeAPIServer),
		process(cluster.Volumes, parts.KubeAPIServer),

		process(parts.Containerd),
		step(log, "Import "+pauseImage, pauseImage, []string{parts.Containerd}, func(ctx context.Context) error {
			return built.pause.Import(ctx, l)
		}),
		process(parts.Kubelet, parts.KubeAPIServer, pauseImage),
		process(parts.KubeProxy, parts.KubeAPIServer),
		step(log, "Wait for "+node, node, []string{parts.Kubelet, parts.KubeControllerManager}, func(ctx context.Context) error {
			return cluster.AwaitNode(ctx, l)
		}),

		step(log, "Apply "+objects, objects, []string{parts.KubeAPIServer}, func(ctx context.Context) error {
			return cluster.ApplyObjects(ctx, l)
		}),
		process(parts.GardenerAPIServer, parts.KubeAPIServer),
		step(log, "Wait for "+gardenerAPI, gardenerAPI, []string{parts.GardenerAPIServer, objects}, func(ctx context.Context) error {
			return cluster.AwaitGardenerAPI(ctx, l)
		}),
		process(parts.GardenerControllerManager, gardenerAPI),
		process(parts.GardenerResourceManager, objects),
		process(cluster.Upstreams),
		process(cluster.Gardenlet, gardenerAPI),
	})
}

// step is a step that the log tells about.
func step(log *progress.Log, what, name string, after []string, run func(context.Context) error) steps.Step {
	return steps.Step{Name: name, After: after, Run: func(ctx context.Context) error {
		return log.Start(what)(run(ctx))
	}}
}
