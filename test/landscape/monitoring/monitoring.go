// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package monitoring runs the Prometheus instances of a Shoot and of its seed on a landscape, for tests. As in Gardener,
// ScrapeConfigs and PrometheusRules configure them; prometheus-config translates these like prometheus-operator.
package monitoring

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	prometheusv1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/parts"
	"github.com/larder-project/larder/test/landscape/supervisor"
)

const (
	// Shoot is the name of the Prometheus of a Shoot.
	Shoot = "shoot"
	// Seed is the name of the Prometheus of the seed. Gardener has two: one scrapes extensions, the other one federates
	// the Prometheus instances of Shoots.
	Seed = "seed"

	shootPort = 9090
	seedPort  = 9091

	// lookback is the age at which Prometheus takes a sample for outdated.
	lookback = 5 * time.Minute
	// reloadTimeout limits the time until a new configuration is in use.
	reloadTimeout = time.Minute
)

// Options describes a Prometheus.
type Options struct {
	// Name is Shoot or Seed. Its objects have the label prometheus=<Name>.
	Name string
	// Namespace is the namespace of its objects.
	Namespace string
	// ExternalLabels are added to federated series.
	ExternalLabels map[string]string
	// Faster divides all durations: intervals, and those in rules.
	Faster int
}

// Prometheus is a running Prometheus.
type Prometheus struct {
	prometheusv1.API
	options   Options
	landscape *landscape.Landscape
	configure string
	url       string
}

// Start starts a Prometheus without data, in place of one that runs. Its data is kept until the next start.
func Start(ctx context.Context, l *landscape.Landscape, o Options) (*Prometheus, error) {
	cache, err := parts.DefaultCache()
	if err != nil {
		return nil, err
	}
	builder := parts.Builder{Repository: l.Repository(), Cache: cache}
	programs, err := builder.Find(parts.Prometheus, parts.PrometheusConfig)
	if err != nil {
		return nil, err
	}
	for name, path := range programs {
		programs[name] = filepath.Join(l.BinDir(), name)
		if err := os.RemoveAll(programs[name]); err != nil {
			return nil, err
		}
		if err := landscape.Place(path, programs[name]); err != nil {
			return nil, err
		}
	}
	p := &Prometheus{options: o, landscape: l, configure: programs[parts.PrometheusConfig], url: "http://" + o.address(l)}
	client, err := api.NewClient(api.Config{Address: p.url})
	if err != nil {
		return nil, err
	}
	p.API = prometheusv1.NewAPI(client)
	if err := p.writeConfig(ctx); err != nil {
		return nil, err
	}
	if err := p.Stop(ctx); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Join(l.VarDir(), "lib", p.process())); err != nil {
		return nil, err
	}
	if err := l.AddProcess(ctx, p.spec(programs[parts.Prometheus])); err != nil {
		return nil, err
	}
	return p, l.StartProcess(ctx, p.process())
}

// address returns the address of the server.
func (o Options) address(l *landscape.Landscape) string {
	port := shootPort
	if o.Name == Seed {
		port = seedPort
	}
	return fmt.Sprintf("%s:%d", l.IP(), port)
}

func (p *Prometheus) process() string { return "prometheus-" + p.options.Name }

func (p *Prometheus) spec(program string) supervisor.Spec {
	return supervisor.Spec{
		Name: p.process(),
		Path: program,
		Args: []string{
			"--config.file=/etc/prometheus/" + p.options.Name + ".yaml",
			"--storage.tsdb.path=" + filepath.Join("/var/lib", p.process()),
			"--web.listen-address=" + p.options.address(p.landscape),
			"--web.enable-lifecycle",
			"--query.lookback-delta=" + (lookback / time.Duration(p.options.Faster)).String(),
		},
		Env:   p.landscape.Environment(),
		Ready: p.url + "/-/ready",
	}
}

// writeConfig translates the objects of the Prometheus.
func (p *Prometheus) writeConfig(ctx context.Context) error {
	labels := make([]string, 0, len(p.options.ExternalLabels))
	for _, name := range slices.Sorted(maps.Keys(p.options.ExternalLabels)) {
		labels = append(labels, name+"="+p.options.ExternalLabels[name])
	}
	command := p.landscape.Command(ctx, p.configure,
		"-name="+p.options.Name, "-namespace="+p.options.Namespace, "-labels="+strings.Join(labels, ","), fmt.Sprintf("-faster=%d", p.options.Faster))
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("configure Prometheus %s: %w: %s", p.options.Name, err, output)
	}
	return nil
}

// Reload makes Prometheus use the current objects.
func (p *Prometheus) Reload(ctx context.Context) error {
	if err := p.writeConfig(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/-/reload", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("reload Prometheus %s: %w", p.options.Name, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
		return fmt.Errorf("reload Prometheus %s: %s: %s", p.options.Name, response.Status, reason)
	}
	return nil
}

// Stop stops it.
func (p *Prometheus) Stop(ctx context.Context) error {
	processes, err := p.landscape.Processes(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(processes, func(s supervisor.Status) bool { return s.Name == p.process() }) {
		return nil
	}
	return p.landscape.RemoveProcess(ctx, p.process())
}
