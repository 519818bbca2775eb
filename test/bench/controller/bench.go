// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	secretsmanager "github.com/gardener/gardener/pkg/utils/secrets/manager"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// writers is the number of objects that are created concurrently.
	writers = 16
	// samples is the number of reconciliations whose requests are counted one by one.
	samples = 15
	// settling is the time in which the controllers finish what follows a reconciliation.
	settling = 10 * time.Second
	// libraryWrites are those of Gardener's extension library in a reconciliation: it removes the annotation that requests
	// it, and writes the operation into the status when it starts and when it ends.
	libraryWrites = 3
)

// bench measures one number of Shoots.
type bench struct {
	settings
	size    int
	report  *report
	program *program
	server  *server
	healthy []*shoot
	// failures are Shoots by the way in which they fail.
	failures map[string][]*shoot
	// silent is the URL of a server that never responds.
	silent  string
	leader  *process
	standby *process
	// stopStandIn stops the stand-in.
	stopStandIn func() error
	// stopSilent stops the server that never responds.
	stopSilent func() error
}

func newBench(ctx context.Context, s settings, program *program, size int, report *report) (_ *bench, err error) {
	b := &bench{settings: s, size: size, report: report, program: program}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.stop())
		}
	}()
	b.healthy = newShoots("", size, func(*shoot) {})
	if err := b.prepareFailures(); err != nil {
		return nil, err
	}
	all := b.healthy
	for _, shoots := range b.failures {
		all = append(slices.Clip(all), shoots...)
	}
	if b.server, err = startServer(ctx, program.user(), all); err != nil {
		return nil, err
	}
	objects := append([]client.Object{&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: program.namespace()}}}, program.permissions...)
	for _, object := range objects {
		object = object.DeepCopyObject().(client.Object)
		if err := b.server.client.Create(ctx, object); err != nil {
			return nil, fmt.Errorf("create %T %s: %w", object, object.GetName(), err)
		}
	}
	b.stopStandIn, err = (&standIn{}).start(ctx, b.server)
	return b, err
}

func (b *bench) run(ctx context.Context, last bool) error {
	phases := []struct {
		progress string
		run      func(context.Context) error
		last     bool
	}{
		{"Reconcile a new Shoot", b.measureNew, false},
		{"Create the other Shoots", b.createOthers, false},
		{"Start the extension, which has to reconcile all of them", b.measureStorm, false},
		{"Reconcile unchanged Shoots", b.measureUnchanged, false},
		{"Rest", b.measureRest, false},
		{"Restart the extension", b.measureRestart, true},
		{"Reconcile healthy Shoots beside failing ones", b.measureFailures, true},
		{"Kill the leader", b.measureFailover, true},
	}
	for _, phase := range phases {
		if phase.last && !last {
			continue
		}
		progress("%s", phase.progress)
		if err := phase.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", strings.ToLower(phase.progress), err)
		}
	}
	return nil
}

func (b *bench) create(ctx context.Context, shoots []*shoot) error {
	var size atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for _, shoot := range shoots {
		group.Go(func() error {
			bytes, err := shoot.create(ctx, b.server, b.machineTypes)
			size.Store(int64(bytes))
			return err
		})
	}
	err := group.Wait()
	b.report.clusterSize = max(b.report.clusterSize, size.Load())
	return err
}

// createOthers creates the Shoots but the first, and requests the reconciliation of all. They have certificates
// already: those of the first one, since the Services that they share have the same addresses. To generate the keys of
// all would take an hour, and hide everything else.
func (b *bench) createOthers(ctx context.Context) error {
	certificates := &corev1.SecretList{}
	if err := b.server.client.List(ctx, certificates, client.InNamespace(b.healthy[0].namespace), client.MatchingLabels{
		secretsmanager.LabelKeyManagedBy: secretsmanager.LabelValueSecretsManager,
	}); err != nil {
		return err
	}
	for _, shoot := range b.healthy[1:] {
		shoot.certificates = certificates.Items
	}
	if err := b.create(ctx, b.healthy[1:]); err != nil {
		return err
	}
	_, err := b.server.audit.Read()
	return errors.Join(err, b.healthy[0].request(ctx, b.server.client))
}

func (b *bench) each(number int) float64 { return float64(number) / float64(b.size) }

func (b *bench) set(heading, title, format string, args ...any) {
	b.report.set(b.size, heading, title, fmt.Sprintf(format, args...))
}

func (b *bench) stop() error {
	var errs []error
	for _, process := range []*process{b.leader, b.standby} {
		if process != nil {
			errs = append(errs, process.stop(syscall.SIGTERM))
		}
	}
	for _, stop := range []func() error{b.stopStandIn, b.stopSilent} {
		if stop != nil {
			errs = append(errs, stop())
		}
	}
	if b.server == nil {
		return errors.Join(errs...)
	}
	if b.keep != "" {
		errs = append(errs, b.keepLogs())
	}
	return errors.Join(append(errs, b.server.stop())...)
}

// keepLogs copies the logs to the directory of the flag.
func (b *bench) keepLogs() error {
	directory := filepath.Join(b.keep, fmt.Sprint(b.size))
	if err := os.MkdirAll(directory, 0o750); err != nil {
		return err
	}
	logs, err := filepath.Glob(b.server.file("*.log"))
	if err != nil {
		return err
	}
	for _, log := range logs {
		data, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(directory, filepath.Base(log)), data, 0o600); err != nil { //nolint:gosec // The user of this program names the directory.
			return err
		}
	}
	return nil
}
