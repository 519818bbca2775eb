// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command registry-cache-pull-secrets keeps pull secrets in the namespaces of a Shoot, as the Secret
// kube-system/registry-cache-pull-secrets describes them. It runs in the Shoot, once.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/events"
	"k8s.io/component-base/version"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/larder-project/larder/pkg/pullsecret"
	"github.com/larder-project/larder/pkg/pullsecret/keeper"
)

const (
	name = "registry-cache-pull-secrets"
	// qps and burst bound the load on the API server when all namespaces change.
	qps, burst = 20, 40
	// eventQPS and eventBurst bound the events, which come all at once after a start, and must not delay anything else.
	eventQPS, eventBurst = 1, 20
	// requestTimeout bounds a request to the report or a probe.
	requestTimeout = 10 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var kubeconfig string
	command := &cobra.Command{
		Use:           name,
		Short:         "Keep pull secrets in the namespaces of a cluster",
		Version:       version.Get().GitVersion,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		RunE: func(command *cobra.Command, _ []string) error {
			command.SilenceUsage = true // The arguments are valid; don't print usage for runtime errors.
			return run(command.Context(), kubeconfig)
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "file with the kubeconfig; by default, the pod's ServiceAccount is used")
	return command
}

func run(ctx context.Context, kubeconfig string) error {
	log := logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, nil))
	klog.SetLogger(log)
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig: %w", err)
	}
	config.UserAgent, config.QPS, config.Burst = name+"/"+version.Get().GitVersion, qps, burst
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("create client: %w", err)
	}
	config.QPS, config.Burst = eventQPS, eventBurst
	recording, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("create client for events: %w", err)
	}
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: recording.EventsV1()})
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		return fmt.Errorf("start recording events: %w", err)
	}
	defer broadcaster.Shutdown()
	k := &keeper.Keeper{Client: client, Recorder: broadcaster.NewRecorder(scheme.Scheme, name), Clock: clock.RealClock{}, Log: log}

	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+strconv.Itoa(pullsecret.Port))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: k.Handler(), ReadTimeout: requestTimeout, WriteTimeout: requestTimeout}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() { _ = server.Close() }()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(<-served) }()
	if err := k.Run(ctx); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("serve report: %w", err)
	}
	return nil
}
