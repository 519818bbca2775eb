// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	secretsmanager "github.com/gardener/gardener/pkg/utils/secrets/manager"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
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
		{"Fail", b.measureFailures, true},
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

// measureNew measures the reconciliation of a new Shoot.
func (b *bench) measureNew(ctx context.Context) (err error) {
	const heading = "A new Shoot"
	if b.leader, err = b.program.start(b.server, "new"); err != nil {
		return err
	}
	if err := b.leader.awaitReady(ctx); err != nil {
		return err
	}
	if _, err := b.leader.cpu(); err != nil {
		return err
	}
	start := time.Now()
	first := b.healthy[0]
	if err := b.create(ctx, []*shoot{first}); err != nil {
		return err
	}
	if err := first.await(ctx, b.server.client); err != nil {
		return err
	}
	cpu, err := b.leader.cpu()
	if err != nil {
		return err
	}
	b.set(heading, "reconciled after", "%.1f s", time.Since(start).Seconds())
	b.set(heading, "CPU, most of it for the keys of certificates", "%.1f s", cpu)
	requests, err := b.requests(func(r record) bool { return r.namespace == first.namespace })
	if err != nil {
		return err
	}
	b.set(heading, "requests to the seed", "%d", requests.sum(func(r request) bool { return r.seed }))
	b.set(heading, "requests to the Shoot", "%d", requests.sum(func(r request) bool { return !r.seed }))
	return b.leader.stop(syscall.SIGTERM)
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

// measureStorm measures the reconciliation of all Shoots after the start.
func (b *bench) measureStorm(ctx context.Context) (err error) {
	const heading = "Start with all Shoots to be reconciled"
	start := time.Now()
	if b.leader, err = b.program.start(b.server, "first"); err != nil {
		return err
	}
	if err := b.awaitAll(ctx); err != nil {
		return err
	}
	took := time.Since(start)
	cpu, err := b.leader.cpu()
	if err != nil {
		return err
	}
	requests, err := b.requests(func(record) bool { return true })
	if err != nil {
		return err
	}
	if err := b.awaitSettled(ctx); err != nil {
		return err
	}
	_, peak, err := b.leader.rss()
	if err != nil {
		return err
	}
	b.set(heading, "all reconciled after", "%.1f s", took.Seconds())
	b.set(heading, "CPU", "%.1f s", cpu)
	b.set(heading, "memory (RSS), maximum", "%.0f MiB", peak)
	b.set(heading, "requests to the seed, for each Shoot", "%.1f", b.each(requests.sum(func(r request) bool { return r.seed && !r.lease() })))
	b.set(heading, "requests to the Shoot", "%.1f", b.each(requests.sum(func(r request) bool { return !r.seed })))
	return nil
}

// measureUnchanged measures reconciliations that have nothing to change, one after the other.
func (b *bench) measureUnchanged(ctx context.Context) error {
	const heading = "Reconciliation of an unchanged Shoot"
	latencies := make([]time.Duration, 0, samples)
	var requests []counts
	for i := range samples {
		shoot := b.healthy[i*len(b.healthy)/samples]
		if _, err := b.server.audit.Read(); err != nil {
			return err
		}
		latency, err := b.reconcile(ctx, shoot)
		if err != nil {
			return err
		}
		latencies = append(latencies, latency)
		sample, err := b.requests(func(r record) bool { return r.namespace == shoot.namespace })
		if err != nil {
			return err
		}
		requests = append(requests, sample)
	}
	slices.Sort(latencies)
	median := medians(requests)
	b.report.list(heading, median)
	b.set(heading, "takes", "%.0f ms", float64(latencies[len(latencies)/2].Milliseconds()))
	b.set(heading, "requests to the seed", "%d", median.sum(func(r request) bool { return r.seed }))
	b.set(heading, "requests to the Shoot", "%d", median.sum(func(r request) bool { return !r.seed }))
	b.set(heading, fmt.Sprintf("writes, apart from %d of Gardener's library", libraryWrites), "%d", median.sum(request.writes)-libraryWrites)
	return b.sleep(ctx, settling)
}

// measureRest measures the extension while nothing changes.
func (b *bench) measureRest(ctx context.Context) error {
	const heading = "A minute at rest"
	if _, err := b.leader.cpu(); err != nil {
		return err
	}
	if _, err := b.server.audit.Read(); err != nil {
		return err
	}
	if err := b.sleep(ctx, b.rest); err != nil {
		return err
	}
	cpu, err := b.leader.cpu()
	if err != nil {
		return err
	}
	requests, err := b.requests(func(record) bool { return true })
	if err != nil {
		return err
	}
	rss, _, err := b.leader.rss()
	if err != nil {
		return err
	}
	minutes := b.rest.Minutes()
	b.report.list(heading, requests)
	b.set(heading, "CPU", "%.2f s", cpu/minutes)
	b.set(heading, "memory (RSS)", "%.0f MiB", rss)
	b.set(heading, "requests to the seed, for each Shoot", "%.1f", b.each(requests.sum(func(r request) bool { return r.seed && !r.lease() }))/minutes)
	b.set(heading, "requests to the Shoot", "%.1f", b.each(requests.sum(func(r request) bool { return !r.seed }))/minutes)
	b.set(heading, "writes, all Shoots", "%.0f", float64(requests.sum(func(r request) bool { return r.writes() && !r.lease() }))/minutes)
	b.set(heading, "writes of leases: leader election and heartbeat", "%.0f", float64(requests.sum(func(r request) bool { return r.writes() && r.lease() }))/minutes)
	return nil
}

// measureRestart measures an update of the extension, with nothing to reconcile.
func (b *bench) measureRestart(ctx context.Context) (err error) {
	const heading = "Restart with nothing to be reconciled"
	start := time.Now()
	if err := b.leader.stop(syscall.SIGTERM); err != nil {
		return err
	}
	if b.leader, err = b.program.start(b.server, "second"); err != nil {
		return err
	}
	if err := b.leader.awaitReady(ctx); err != nil {
		return err
	}
	ready := time.Since(start)
	if _, err := b.reconcile(ctx, b.healthy[0]); err != nil {
		return err
	}
	reconciles := time.Since(start)
	if err := b.sleep(ctx, b.rest-time.Since(start)); err != nil {
		return err
	}
	cpu, err := b.leader.cpu()
	if err != nil {
		return err
	}
	requests, err := b.requests(func(record) bool { return true })
	if err != nil {
		return err
	}
	_, peak, err := b.leader.rss()
	if err != nil {
		return err
	}
	b.set(heading, "ready after", "%.1f s", ready.Seconds())
	b.set(heading, "reconciles after", "%.1f s", reconciles.Seconds())
	b.set(heading, "CPU, first minute", "%.1f s", cpu)
	b.set(heading, "memory (RSS), maximum", "%.0f MiB", peak)
	b.set(heading, "writes, first minute, apart from leases", "%d", requests.sum(func(r request) bool { return r.writes() && !r.lease() })-libraryWrites)
	return nil
}

// measureFailover measures how long Shoots wait for another leader.
func (b *bench) measureFailover(ctx context.Context) (err error) {
	const heading = "The leader is killed"
	if b.standby, err = b.program.start(b.server, "standby"); err != nil {
		return err
	}
	if err := b.standby.awaitReady(ctx); err != nil {
		return err
	}
	if err := b.sleep(ctx, settling); err != nil {
		return err
	}
	rss, _, err := b.standby.rss()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := b.leader.stop(syscall.SIGKILL); err != nil {
		return err
	}
	if _, err := b.reconcile(ctx, b.healthy[0]); err != nil {
		return err
	}
	b.set(heading, "memory (RSS) of the other process before", "%.0f MiB", rss)
	b.set(heading, "the other process reconciles after", "%.1f s", time.Since(start).Seconds())
	return nil
}

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

func (b *bench) each(number int) float64 { return float64(number) / float64(b.size) }

func (b *bench) set(heading, title, format string, args ...any) {
	b.report.set(b.size, heading, title, fmt.Sprintf(format, args...))
}

func (b *bench) sleep(ctx context.Context, duration time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(duration):
		return nil
	}
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
	if err := os.MkdirAll(directory, 0o755); err != nil {
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
		if err := os.WriteFile(filepath.Join(directory, filepath.Base(log)), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
