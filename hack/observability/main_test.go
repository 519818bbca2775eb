// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"

	"github.com/larder-project/larder/pkg/component/observability"
)

func TestObservability(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Observability Documentation Suite")
}

const root = "../.."

// seedPanel is the prefix of the places of expressions in the dashboard of the seed.
const seedPanel = "seed panel "

// recordedSeries matches the names of recorded series.
var recordedSeries = regexp.MustCompile(`shoot:[a-z_:]+`)

var _ = Describe("Observability", Ordered, func() {
	var (
		files   map[string][]byte
		metrics map[string]bool
		// exprs are all expressions by what they belong to.
		exprs = map[string]string{}
	)

	BeforeAll(func(ctx SpecContext) {
		// A process registers its metrics once, so this is the only server.
		var err error
		files, err = generate(ctx, root)
		Expect(err).NotTo(HaveOccurred())
		metrics = map[string]bool{}
		for _, match := range regexp.MustCompile("(?m)^\\| `(registry_[a-z_]+)`").FindAllStringSubmatch(string(files[document]), -1) {
			metrics[match[1]] = true
		}
		Expect(len(metrics)).To(BeNumerically(">", 30))

		for _, alert := range observability.Alerts() {
			exprs["alert "+alert.Name] = alert.Expr
		}
		for _, rule := range observability.RecordingRules() {
			exprs["rule "+rule.Name] = rule.Expr
		}
		for kind, panels := range map[string][]observability.Panel{"panel ": observability.Panels(), seedPanel: observability.SeedPanels()} {
			for _, panel := range panels {
				for _, query := range panel.Queries {
					exprs[kind+panel.Title] += query.Expr + "\n"
				}
			}
		}
	}, NodeTimeout(timeout))

	It("has generated files that are up to date", func() {
		for name, content := range files {
			onDisk, err := os.ReadFile(filepath.Join(root, name))
			Expect(err).NotTo(HaveOccurred())
			Expect(string(onDisk)).To(Equal(string(content)), "%s: run make generate", name)
		}
	})

	It("refers only to metrics that the server or the controller has", func() {
		names := regexp.MustCompile(`\bregistry_(?:proxy|http|cache)_[a-z_]+`)
		found := 0
		for place, expr := range exprs {
			expr = recordedSeries.ReplaceAllString(expr, "")
			for _, name := range names.FindAllString(expr, -1) {
				found++
				if !metrics[name] {
					name = strings.TrimSuffix(name, "_bucket")
				}
				Expect(metrics).To(HaveKey(name), place)
			}
		}
		Expect(found).To(BeNumerically(">", 50))
	})

	It("refers only to series that are recorded", func() {
		recorded := map[string]bool{}
		for _, rule := range observability.RecordingRules() {
			recorded[rule.Name] = true
		}
		for place, expr := range exprs {
			for _, name := range recordedSeries.FindAllString(expr, -1) {
				Expect(recorded).To(HaveKey(name), place)
			}
		}
	})

	It("scrapes every metric and label of the server that the table has, and no other", func() {
		relabelings := observability.ScrapeConfig(observability.Values{}).Spec.MetricRelabelConfigs
		Expect(relabelings).To(HaveLen(2))
		Expect(relabelings[0].Action).To(Equal("keep"))
		Expect(relabelings[1].Action).To(Equal("labelkeep"))
		keeps := func(relabeling monitoringv1.RelabelConfig, name string) bool {
			return regexp.MustCompile("^(?:" + relabeling.Regex + ")$").MatchString(name)
		}
		checked := 0
		for line := range strings.Lines(string(files[document])) {
			cells := strings.Split(line, "|")
			if len(cells) < 5 || !regexp.MustCompile("^ `registry_(proxy|http)_").MatchString(cells[1]) {
				continue
			}
			checked++
			name, kind, labels := strings.Trim(cells[1], " `"), strings.TrimSpace(cells[2]), cells[4]
			if strings.HasPrefix(name, "registry_http_") && strings.HasSuffix(name, "_size_bytes") {
				Expect(keeps(relabelings[0], name+"_bucket")).To(BeFalse(), name)
				continue
			}
			suffixes := []string{""}
			if kind == "histogram" {
				suffixes = []string{"_bucket", "_sum", "_count"}
			}
			for _, suffix := range suffixes {
				Expect(keeps(relabelings[0], name+suffix)).To(BeTrue(), name+suffix)
			}
			for _, label := range regexp.MustCompile("[a-z_]+").FindAllString(labels, -1) {
				Expect(keeps(relabelings[1], label)).To(BeTrue(), "%s: %s", name, label)
			}
		}
		Expect(checked).To(BeNumerically(">", 30))
		for _, name := range []string{"go_goroutines", "process_open_fds", "registry_proxy_forged", "registry_proxy_upstream_up_forged"} {
			Expect(keeps(relabelings[0], name)).To(BeFalse(), name)
		}
		for _, label := range []string{"__name__", "le", "job", "instance", "pod", "node", "upstream_host", "app"} {
			Expect(keeps(relabelings[1], label)).To(BeTrue(), label)
		}
		Expect(keeps(relabelings[1], "forged")).To(BeFalse())
	})

	It("scrapes every metric that an expression needs", func() {
		kept := regexp.MustCompile(observability.ScrapeConfig(observability.Values{}).Spec.MetricRelabelConfigs[0].Regex)
		for place, expr := range exprs {
			if strings.HasPrefix(place, seedPanel) {
				continue // The Prometheus of the seed scrapes the controller.
			}
			expr = recordedSeries.ReplaceAllString(expr, "")
			for _, name := range regexp.MustCompile(`\b(registry_(proxy|http)|process)_[a-z_]+`).FindAllString(expr, -1) {
				Expect(kept.MatchString(name)).To(BeTrue(), "%s: %s", place, name)
			}
		}
	})

	It("shows every metric of the cache in a panel, an alert or a rule", func() {
		// What a panel shows in another form, or only the table explains.
		unused := []string{
			"registry_proxy_removed_total",      // The bytes are shown.
			"registry_http_request_size_bytes",  // Requests have no bodies.
			"registry_http_response_size_bytes", // The bytes of content are shown.
			"registry_http_in_flight_requests",  // The active transfers are shown.
			"registry_proxy_coalesced_total",    // The outcome joined is shown.
		}
		all := strings.Join(slices.Collect(maps.Values(exprs)), "\n")
		for name := range metrics {
			if strings.HasPrefix(name, "registry_") && !slices.Contains(unused, name) {
				Expect(all).To(MatchRegexp(`\b` + name + `(_bucket|_sum|_count)?\b`))
			}
		}
	})

	It("has a runbook for each alert, and none for others", func() {
		data, err := os.ReadFile(filepath.Join(root, "docs/alerts.md"))
		Expect(err).NotTo(HaveOccurred())
		sections := strings.Split(string(data), "\n## ")[1:]
		found := map[string]bool{}
		for _, section := range sections {
			name, text, _ := strings.Cut(section, "\n")
			if !strings.HasPrefix(name, "RegistryCache") {
				continue
			}
			found[name] = true
			for _, part := range []string{"**Meaning.**", "**Effect.**", "**What to do.**", "**Resolves.**"} {
				Expect(text).To(ContainSubstring(part), name)
			}
		}
		for _, alert := range observability.Alerts() {
			Expect(found).To(HaveKey(alert.Name))
			delete(found, alert.Name)
		}
		Expect(found).To(BeEmpty())
	})
})
