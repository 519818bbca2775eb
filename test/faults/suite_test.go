// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"encoding/json"
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
	SetDefaultEventuallyTimeout(time.Minute)
	SetDefaultEventuallyPollingInterval(20 * time.Millisecond)
	EnforceDefaultTimeoutsWhenUsingContexts()
	RunSpecs(t, "Faults")
}

// implementations are the servers under test, limited by the environment variable LARDER_FAULTS_IMPLEMENTATIONS. Raced
// is ours with the race detector.
var (
	implementations []cacheprocess.Implementation
	raced           cacheprocess.Implementation
)

func implementationNames() []string {
	if names := os.Getenv("LARDER_FAULTS_IMPLEMENTATIONS"); names != "" {
		return strings.Split(names, ",")
	}
	return []string{cacheprocess.Stock, cacheprocess.Ours}
}

// The first process builds; the others use its results.
var _ = SynchronizedBeforeSuite(func(ctx context.Context) []byte {
	built, err := cacheprocess.BuildRace(ctx)
	Expect(err).NotTo(HaveOccurred())
	all := []cacheprocess.Implementation{built}
	for _, name := range implementationNames() {
		built, err := cacheprocess.Build(ctx, name)
		Expect(err).NotTo(HaveOccurred())
		all = append(all, built)
	}
	encoded, err := json.Marshal(all)
	Expect(err).NotTo(HaveOccurred())
	return encoded
}, func(_ context.Context, encoded []byte) {
	var all []cacheprocess.Implementation
	Expect(json.Unmarshal(encoded, &all)).To(Succeed())
	raced, implementations = all[0], all[1:]
}, NodeTimeout(30*time.Minute))
