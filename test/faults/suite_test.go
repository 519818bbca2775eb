// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/cacheprocess"
)

func TestFaults(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Faults")
}

// implementations are those that the faults are put to. The environment
// variable LARDER_FAULTS_IMPLEMENTATIONS limits them.
var implementations []cacheprocess.Implementation

func implementationNames() []string {
	if names := os.Getenv("LARDER_FAULTS_IMPLEMENTATIONS"); names != "" {
		return strings.Split(names, ",")
	}
	return []string{cacheprocess.Stock, cacheprocess.Ours}
}

// The first process builds, the others only look up what was built.
var _ = SynchronizedBeforeSuite(func(ctx context.Context) []byte {
	names := implementationNames()
	binaries := make([]string, 0, len(names))
	for _, name := range names {
		implementation, err := cacheprocess.Build(ctx, name)
		Expect(err).NotTo(HaveOccurred())
		binaries = append(binaries, implementation.Binary)
	}
	return []byte(strings.Join(binaries, "\n"))
}, func(_ context.Context, binaries []byte) {
	names := implementationNames()
	for i, binary := range strings.Split(string(binaries), "\n") {
		implementations = append(implementations, cacheprocess.Implementation{Name: names[i], Binary: binary})
	}
}, NodeTimeout(10*time.Minute))
