// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"os"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/cacheprocess"
)

func TestConformance(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Conformance")
}

// implementationVariable names another implementation than ours to check.
const implementationVariable = "LARDER_CONFORMANCE_IMPLEMENTATION"

var implementation cacheprocess.Implementation

var _ = SynchronizedBeforeSuite(func(ctx context.Context) []byte {
	name := os.Getenv(implementationVariable)
	if name == "" {
		name = cacheprocess.Ours
	}
	built, err := cacheprocess.Build(ctx, name)
	Expect(err).NotTo(HaveOccurred())
	return []byte(built.Name + "\n" + built.Binary)
}, func(encoded []byte) {
	implementation.Name, implementation.Binary = cut(string(encoded))
}, NodeTimeout(10*time.Minute))
