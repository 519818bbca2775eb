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

// knowledge is what is known about stock Distribution and a fault.
type knowledge int

const (
	stockFails knowledge = iota
	stockWithstands
	stockVaries // depends on chance, or is a matter of taste
)

// fault is something that goes wrong, and how a cache should take it.
type fault struct {
	name  string
	stock knowledge
	check func(ctx context.Context, g Gomega, c *cache)
	// skip tells why the fault cannot be simulated here.
	skip func() string
	// memory is measured, which the race detector takes more of.
	memory bool
}

// verdict is how one implementation took a fault.
type verdict struct {
	Fault, Implementation string
	Failure               string // empty if it withstood
	Log                   string // the end of the server's log, if it did not
	Seconds               float64
}

const matrixEntry = "matrix"

// patience is how long a fault may take altogether.
const patience = 5 * time.Minute

// put puts faults to all implementations, as one spec each.
func put(faults ...fault) {
	for _, f := range faults {
		It(f.name, func(ctx SpecContext) {
			if f.skip != nil {
				if reason := f.skip(); reason != "" {
					Skip(reason)
				}
			}
			verdicts := f.run(ctx)
			AddReportEntry(matrixEntry, mustEncode(verdicts), ReportEntryVisibilityNever)
			for _, v := range verdicts {
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

// run puts the fault to all implementations at once.
func (f fault) run(ctx context.Context) []verdict {
	verdicts := make([]verdict, len(implementations))
	var group sync.WaitGroup
	for i, implementation := range implementations {
		if implementation.Name == cacheprocess.Ours && !f.memory {
			implementation = raced
		}
		group.Go(func() {
			start := time.Now()
			verdicts[i] = verdict{Fault: f.name, Implementation: implementation.Name}
			verdicts[i].Failure, verdicts[i].Log = f.try(ctx, implementation)
			verdicts[i].Seconds = time.Since(start).Seconds()
		})
	}
	group.Wait()
	return verdicts
}

// failure is what a failed assertion of a check panics with.
type failure string

// try puts the fault to one implementation and returns how it failed, and what
// it logged last.
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
			var verdicts []verdict
			if err := json.Unmarshal([]byte(encoded), &verdicts); err != nil {
				continue
			}
			for _, v := range verdicts {
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
