// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/cacheprocess"
)

// knowledge is the known behaviour of stock Distribution under a fault.
type knowledge int

const (
	stockFails knowledge = iota
	stockWithstands
	stockVaries // depends on chance, or is debatable
)

// fault is a fault with the expected behaviour of a cache.
type fault struct {
	name  string
	stock knowledge
	check func(ctx context.Context, g Gomega, c *cache)
	// skip returns why the machine cannot simulate the fault.
	skip func() string
	// memory means that the check measures memory, of which the race detector needs more.
	memory bool
}

// result is the behaviour of one implementation under a fault.
type result struct {
	Fault, Implementation string
	Failure               string // empty if it withstood
	Log                   string // the end of the server's log, if it did not
	Seconds               float64
}

const matrixEntry = "matrix"

// patience limits the time of a fault.
const patience = 5 * time.Minute

// inject defines a spec for each fault, which injects it into all implementations.
func inject(faults ...fault) {
	for _, f := range faults {
		It(f.name, func(ctx SpecContext) {
			if f.skip != nil {
				if reason := f.skip(); reason != "" {
					Skip(reason)
				}
			}
			results := f.run(ctx)
			AddReportEntry(matrixEntry, mustEncode(results), ReportEntryVisibilityNever)
			for _, v := range results {
				if v.Implementation == cacheprocess.Ours {
					Expect(v.Failure).To(BeEmpty(), "ours must withstand this; the end of its log:\n%s", v.Log)
				}
				if v.Implementation == cacheprocess.Stock && f.stock == stockFails {
					Expect(v.Failure).NotTo(BeEmpty(), "stock has this fault, or the test proves nothing")
				}
			}
		}, SpecTimeout(patience+20*time.Second))
	}
}

// run injects the fault into all implementations concurrently.
func (f fault) run(ctx context.Context) []result {
	results := make([]result, len(implementations))
	var group sync.WaitGroup
	for i, implementation := range implementations {
		if implementation.Name == cacheprocess.Ours && !f.memory {
			implementation = raced
		}
		group.Go(func() {
			start := time.Now()
			results[i] = result{Fault: f.name, Implementation: implementation.Name}
			results[i].Failure, results[i].Log = f.try(ctx, implementation)
			results[i].Seconds = time.Since(start).Seconds()
		})
	}
	group.Wait()
	return results
}

// failure is the panic of a failed assertion in a check.
type failure string

// try injects the fault into one implementation and returns its failure and the end of its log.
func (f fault) try(ctx context.Context, implementation cacheprocess.Implementation) (message, log string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := &cache{implementation: implementation}
	defer c.clean()
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			message = string(r)
			if c.server != nil {
				log = c.server.LogTail()
			}
		default:
			panic(r)
		}
	}()
	f.check(ctx, NewGomega(func(message string, _ ...int) { panic(failure(message)) }), c)
	return "", ""
}

func mustEncode(v any) string {
	data, err := json.Marshal(v)
	Expect(err).NotTo(HaveOccurred())
	return string(data)
}

var _ = ReportAfterSuite("matrix", func(report Report) {
	var out, reasons strings.Builder
	fmt.Fprintf(&out, "\n| %-78s | %-6s | %-6s | seconds |\n|%s|--------|--------|---------|\n", "fault", "stock", "ours", strings.Repeat("-", 80))
	for _, spec := range report.SpecReports {
		if spec.LeafNodeText == "" {
			continue
		}
		cells, seconds := map[string]string{}, 0.0
		for _, entry := range spec.ReportEntries {
			if entry.Name != matrixEntry {
				continue
			}
			encoded, _ := entry.GetRawValue().(string)
			if encoded == "" {
				encoded = entry.StringRepresentation()
			}
			var results []result
			if err := json.Unmarshal([]byte(encoded), &results); err != nil {
				continue
			}
			for _, v := range results {
				cells[v.Implementation] = "PASS"
				if v.Failure != "" {
					cells[v.Implementation] = "FAIL"
					fmt.Fprintf(&reasons, "%s fails %q:\n    %s\n", v.Implementation, v.Fault, strings.ReplaceAll(v.Failure, "\n", "\n    "))
				}
				seconds = max(seconds, v.Seconds)
			}
		}
		name := strings.TrimSpace(strings.Join(append(spec.ContainerHierarchyTexts, spec.LeafNodeText), ": "))
		if len(cells) == 0 {
			cells[cacheprocess.Stock], cells[cacheprocess.Ours] = "skip", "skip"
		}
		fmt.Fprintf(&out, "| %-78s | %-6s | %-6s | %7.1f |\n", name, cells[cacheprocess.Stock], cells[cacheprocess.Ours], seconds)
	}
	_, _ = fmt.Fprintln(os.Stdout, out.String())
	if os.Getenv("LARDER_FAULTS_REASONS") != "" {
		_, _ = fmt.Fprintln(os.Stdout, reasons.String())
	}
})
