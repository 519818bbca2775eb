// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"encoding/json"
	"os"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/cacheprocess"
)

func TestConformance(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(time.Minute)
	EnforceDefaultTimeoutsWhenUsingContexts()
	RunSpecs(t, "Conformance")
}

// implementationVariable is the environment variable with the implementation to check, by default ours.
const implementationVariable = "LARDER_CONFORMANCE_IMPLEMENTATION"

var implementation cacheprocess.Implementation

var _ = SynchronizedBeforeSuite(func(ctx context.Context) []byte {
	build := cacheprocess.BuildRace
	if name := os.Getenv(implementationVariable); name != "" {
		build = func(ctx context.Context) (cacheprocess.Implementation, error) { return cacheprocess.Build(ctx, name) }
	}
	built, err := build(ctx)
	Expect(err).NotTo(HaveOccurred())
	encoded, err := json.Marshal(built)
	Expect(err).NotTo(HaveOccurred())
	return encoded
}, func(encoded []byte) {
	Expect(json.Unmarshal(encoded, &implementation)).To(Succeed())
}, NodeTimeout(30*time.Minute))
