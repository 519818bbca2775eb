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

	"github.com/larder-project/larder/pkg/component/observability"
)

func TestObservability(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Observability Documentation Suite")
}

const root = "../.."

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
		for _, panel := range slices.Concat(observability.Panels(), observability.SeedPanels()) {
			for _, query := range panel.Queries {
				exprs["panel "+panel.Title] += query.Expr + "\n"
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

	It("scrapes every metric of the server that an expression needs", func() {
		relabelings := observability.ScrapeConfig(observability.Values{}).Spec.MetricRelabelConfigs
		Expect(relabelings).To(HaveLen(1))
		kept := regexp.MustCompile(relabelings[0].Regex)
		seed := map[string]bool{}
		for _, panel := range observability.SeedPanels() {
			seed["panel "+panel.Title] = true
		}
		for place, expr := range exprs {
			if seed[place] {
				continue // The Prometheus of the seed scrapes the controller.
			}
			expr = recordedSeries.ReplaceAllString(expr, "")
			for _, name := range regexp.MustCompile(`\b(registry_(proxy|http)|process)_[a-z_]+`).FindAllString(expr, -1) {
				Expect(kept.MatchString(name)).To(BeTrue(), "%s: %s", place, name)
			}
		}
		for _, name := range []string{"go_goroutines", "registry_http_request_size_bytes_bucket", "process_open_fds"} {
			Expect(kept.MatchString(name)).To(BeFalse(), name)
		}
	})

	It("shows every metric of the cache in a panel, an alert or a rule", func() {
		// What a panel shows in another form, or only the table explains.
		unused := []string{
			"registry_proxy_removed_total",      // The bytes are shown.
			"registry_http_request_size_bytes",  // Requests have no bodies.
			"registry_http_response_size_bytes", // The bytes of content are shown.
			"registry_http_in_flight_requests",  // The active transfers are shown.
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
