// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/gardener/gardener/pkg/utils/flow"
	"github.com/go-logr/logr/funcr"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/cluster"
	"github.com/larder-project/larder/test/landscape/parts"
	"github.com/larder-project/larder/test/landscape/progress"
)

// start starts all processes in the order of their dependencies and waits until the node is ready. It skips processes
// that run, so it also repairs a landscape.
func start(ctx context.Context, l *landscape.Landscape, log *progress.Log, built builds) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := newStarting(cancel, log)
	process := func(name string, after ...flow.TaskID) flow.TaskID {
		return s.task("Start "+name, func(ctx context.Context) error { return l.StartProcess(ctx, name) }, after...)
	}

	etcd := process(parts.Etcd)
	apiServer := process(parts.KubeAPIServer, etcd)
	controllerManager := process(parts.KubeControllerManager, apiServer)
	process(parts.KubeScheduler, apiServer)
	process(cluster.DNS, apiServer)
	process(cluster.Volumes, apiServer)

	containerd := process(parts.Containerd)
	pauseImage := s.task("Import the pause image", func(ctx context.Context) error { return built.pause.Import(ctx, l) }, containerd)
	kubelet := process(parts.Kubelet, apiServer, pauseImage)
	process(parts.KubeProxy, apiServer)
	s.task("Wait for the node", func(ctx context.Context) error { return cluster.AwaitNode(ctx, l) }, kubelet, controllerManager)

	objects := s.task("Apply the objects of the cluster", func(ctx context.Context) error { return cluster.ApplyObjects(ctx, l) }, apiServer)
	gardenerAPIServer := process(parts.GardenerAPIServer, apiServer)
	gardenerAPI := s.task("Wait for Gardener's API", func(ctx context.Context) error { return cluster.AwaitGardenerAPI(ctx, l) }, gardenerAPIServer, objects)
	process(parts.GardenerControllerManager, gardenerAPI)
	process(parts.GardenerResourceManager, objects)
	process(cluster.Upstreams)
	process(cluster.Gardenlet, gardenerAPI)
	return s.run(ctx)
}

// starting is a flow that shows a line of progress for each task and ends with the first failure.
type starting struct {
	cancel context.CancelCauseFunc
	log    *progress.Log
	graph  *flow.Graph
}

func newStarting(cancel context.CancelCauseFunc, log *progress.Log) *starting {
	return &starting{cancel: cancel, log: log, graph: flow.NewGraph("Start the landscape")}
}

func (s *starting) task(name string, run flow.TaskFn, after ...flow.TaskID) flow.TaskID {
	return s.graph.Add(flow.Task{Name: name, Dependencies: flow.NewTaskIDs(flow.TaskIDSlice(after)), Fn: func(ctx context.Context) error {
		err := s.log.Start(name)(run(ctx))
		if err != nil {
			// A flow waits for its running tasks, which might wait for minutes.
			s.cancel(err)
		}
		return err
	}})
}

// run returns the first error of a task as it is: the flow's own error repeats the names of the tasks.
func (s *starting) run(ctx context.Context) error {
	// Without a sink, the flow would log to standard error.
	silent := funcr.New(func(string, string) {}, funcr.Options{})
	err := s.graph.Compile().Run(ctx, flow.Opts{Log: silent})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
