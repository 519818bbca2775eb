// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command prometheus-config stands in for prometheus-operator: it writes the configuration of the Prometheus in a
// namespace to /etc/prometheus, where the operator's pods have it.
//
// It reads the ScrapeConfigs and PrometheusRules of that Prometheus, and validates and translates them with the code of
// the operator. The operator skips an object that it rejects; here, such an object is an error. With -faster, time
// passes faster for this Prometheus, see package faster.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	"github.com/prometheus-operator/prometheus-operator/pkg/assets"
	monitoringclient "github.com/prometheus-operator/prometheus-operator/pkg/client/versioned"
	"github.com/prometheus-operator/prometheus-operator/pkg/operator"
	"github.com/prometheus-operator/prometheus-operator/pkg/prometheus"
	metrics "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/larder-project/larder/test/landscape/parts/prometheus/faster"
)

// The paths that the operator's generator writes into the configuration.
const (
	configDir = "/etc/prometheus"
	certsDir  = configDir + "/certs"
)

// interval is the scrape and evaluation interval of Gardener's Prometheus.
const interval = time.Minute

func main() {
	var s source
	kubeconfig := flag.String("kubeconfig", os.Getenv(clientcmd.RecommendedConfigPathEnvVar), "kubeconfig of the seed")
	flag.StringVar(&s.namespace, "namespace", "", "namespace of the objects")
	flag.StringVar(&s.name, "name", "shoot", "name of the Prometheus; its objects have the label prometheus=NAME")
	external := flag.String("labels", "", "external labels: NAME=VALUE,...")
	factor := flag.Int("faster", 1, "divisor of all durations")
	flag.Parse()
	s.factor = faster.Factor(*factor)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	set, err := labels.ConvertSelectorToLabelsMap(*external)
	if err == nil {
		s.labels = set
		err = run(ctx, *kubeconfig, s)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "prometheus-config:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig string, s source) error {
	if s.factor < 1 || s.namespace == "" {
		return errors.New("-namespace is missing or -faster is less than 1")
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig: %w", err)
	}
	files, err := s.files(ctx, config)
	if err != nil {
		return err
	}
	return s.write(files)
}

// source has the objects of a Prometheus.
type source struct {
	namespace, name string
	labels          map[string]string
	factor          faster.Factor
}

func (s source) configFile() string { return filepath.Join(configDir, s.name+".yaml") }

// rulesName is the name of the operator's ConfigMap with the rules.
func (s source) rulesName() string { return "prometheus-" + s.name + "-rulefiles-0" }

// files returns the content of all files by their paths.
func (s source) files(ctx context.Context, config *rest.Config) (map[string][]byte, error) {
	secrets, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	objects, err := monitoringclient.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	store := assets.NewStoreBuilder(secrets.CoreV1(), secrets.CoreV1())
	content, err := s.config(ctx, objects, store)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{s.configFile(): content}
	for name, asset := range store.TLSAssets() {
		files[filepath.Join(certsDir, name)] = asset
	}
	list, err := objects.MonitoringV1().PrometheusRules(s.namespace).List(ctx, metav1.ListOptions{LabelSelector: s.selector().String()})
	if err != nil {
		return nil, fmt.Errorf("list PrometheusRules: %w", err)
	}
	for _, rules := range list.Items {
		content, err := s.rules(&rules)
		if err != nil {
			return nil, fmt.Errorf("PrometheusRule %s: %w", rules.Name, err)
		}
		files[filepath.Join(prometheus.RulesDir, s.rulesName(), rules.Name+".yaml")] = content
	}
	return files, nil
}

// config returns the configuration. The store loads the Secrets.
func (s source) config(ctx context.Context, objects monitoringclient.Interface, store *assets.StoreBuilder) ([]byte, error) {
	list, err := objects.MonitoringV1alpha1().ScrapeConfigs(s.namespace).List(ctx, metav1.ListOptions{LabelSelector: s.selector().String()})
	if err != nil {
		return nil, fmt.Errorf("list ScrapeConfigs: %w", err)
	}
	p := s.prometheus()
	// It receives an event for each rejected object.
	events := operator.NewFakeRecorder(len(list.Items), p)
	log := slog.New(slog.DiscardHandler)
	selector, err := prometheus.NewResourceSelector(log, p, store, nil, operator.NewMetrics(metrics.NewRegistry()), events)
	if err != nil {
		return nil, err
	}
	var rejected []error
	selection, err := selector.SelectScrapeConfigs(ctx, func(_ string, _ labels.Selector, found cache.AppendFunc) error {
		for i := range list.Items {
			found(s.scrapeConfig(&list.Items[i]))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for key, selected := range selection {
		for _, condition := range selected.Conditions() {
			if condition.Status != monitoringv1.ConditionTrue {
				rejected = append(rejected, fmt.Errorf("ScrapeConfig %s: %s", key, condition.Message))
			}
		}
	}
	if err := errors.Join(rejected...); err != nil {
		return nil, err
	}
	generator, err := prometheus.NewConfigGenerator(log, p, prometheus.WithEndpointSliceSupport())
	if err != nil {
		return nil, err
	}
	return generator.GenerateServerConfiguration(p, nil, nil, nil, selection.ValidResources(), store, nil, nil, nil, []string{s.rulesName()})
}

// prometheus returns the Prometheus as Gardener defines it, with what matters to its configuration.
func (s source) prometheus() *monitoringv1.Prometheus {
	every := monitoringv1.Duration(s.factor.Duration(model.Duration(interval)).String())
	selector := &metav1.LabelSelector{MatchLabels: s.selector()}
	return &monitoringv1.Prometheus{
		ObjectMeta: metav1.ObjectMeta{Name: s.name, Namespace: s.namespace},
		Spec: monitoringv1.PrometheusSpec{
			EvaluationInterval: every,
			CommonPrometheusFields: monitoringv1.CommonPrometheusFields{
				ScrapeInterval:       every,
				ScrapeConfigSelector: selector,
				ExternalLabels:       s.labels,
			},
			RuleSelector: selector,
		},
	}
}

func (s source) selector() labels.Set { return labels.Set{"prometheus": s.name} }

// scrapeConfig makes the intervals of a ScrapeConfig faster.
func (s source) scrapeConfig(config *monitoringv1alpha1.ScrapeConfig) *monitoringv1alpha1.ScrapeConfig {
	for _, duration := range []*monitoringv1.Duration{config.Spec.ScrapeInterval, config.Spec.ScrapeTimeout} {
		if duration != nil {
			// The operator validates it; so does the API server.
			if parsed, err := model.ParseDuration(string(*duration)); err == nil {
				*duration = monitoringv1.Duration(s.factor.Duration(parsed).String())
			}
		}
	}
	return config
}

// rules returns the file of a PrometheusRule.
func (s source) rules(rules *monitoringv1.PrometheusRule) ([]byte, error) {
	if errs := operator.ValidateRule(rules.Spec, model.UTF8Validation, parser.Options{}); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	content, err := yaml.Marshal(rules.Spec)
	if err != nil {
		return nil, err
	}
	return s.factor.Rules(content)
}

// write replaces the files. They contain tokens.
func (s source) write(files map[string][]byte) error {
	if err := os.RemoveAll(filepath.Join(prometheus.RulesDir, s.rulesName())); err != nil {
		return err
	}
	for path, content := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
