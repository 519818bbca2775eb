// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/test/cacheprocess"
)

// implementation is registry-cache-server, built from these sources with the race detector.
var implementation cacheprocess.Implementation

var _ = SynchronizedBeforeSuite(func(ctx context.Context) []byte {
	built, err := cacheprocess.BuildRace(ctx)
	Expect(err).NotTo(HaveOccurred())
	encoded, err := json.Marshal(built)
	Expect(err).NotTo(HaveOccurred())
	return encoded
}, func(_ context.Context, encoded []byte) {
	Expect(json.Unmarshal(encoded, &implementation)).To(Succeed())
})

func TestCacheServer(t *testing.T) {
	logrus.SetOutput(GinkgoWriter)
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(time.Minute)
	RunSpecs(t, "Cache Server Suite")
}
