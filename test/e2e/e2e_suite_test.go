// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package e2e_test runs journeys of cluster owners and operators on a running landscape (`make up`). All components are
// real, except for the gardenlet, for which test/landscape/gardenlet stands in.
//
// A landscape is one cluster with one Shoot; each of Ginkgo's processes has its own. Each journey configures the Shoot,
// which is the example again afterwards, and has a label: go test ./test/e2e -ginkgo.label-filter=ha
package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/garden"
)

var (
	here *landscape.Landscape
	c    client.Client
)

func TestE2E(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(5 * time.Minute)
	SetDefaultEventuallyPollingInterval(250 * time.Millisecond)
	EnforceDefaultTimeoutsWhenUsingContexts()
	logf.SetLogger(GinkgoLogr) // Libraries log stack traces without a logger.
	RunSpecs(t, "Journeys on the landscape")
}

var _ = BeforeSuite(func() {
	first, err := landscape.Open()
	Expect(err).NotTo(HaveOccurred())
	here, err = first.Sibling(GinkgoParallelProcess())
	Expect(err).NotTo(HaveOccurred())
	if _, err := here.FirstProcess(); err != nil {
		// A process that skips its journeys would take them from the others.
		suite, _ := GinkgoConfiguration()
		Expect(suite.ParallelTotal).To(Equal(1), "%s does not run", here.Dir())
		Skip("the journeys need a running landscape, which 'make up' starts: " + err.Error())
	}
	c, err = garden.Client(here)
	Expect(err).NotTo(HaveOccurred())
})

var _ = AfterEach(func(ctx context.Context) {
	configure(ctx, garden.Cache(garden.PrivateHost))
}, NodeTimeout(journeyTimeout))

// The summary of Ginkgo has no messages. Whoever reads the end of a log, which may be all that a CI keeps, needs them.
var _ = ReportAfterSuite("Failures", func(report Report) {
	const limit = 1000 // characters of each message
	for _, spec := range report.SpecReports.WithState(types.SpecStateFailureStates) {
		message, more := spec.FailureMessage(), ""
		if len(message) > limit {
			message, more = message[:limit], " ..."
		}
		fmt.Printf("landscape %d, %s to %s: %s\n  %s%s\n", spec.ParallelProcess, spec.StartTime.Format(time.TimeOnly),
			spec.EndTime.Format(time.TimeOnly), spec.FullText(), strings.ReplaceAll(message, "\n", "\n  "), more)
	}
})
