// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver_test

import (
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"
	"github.com/sirupsen/logrus"
)

// binary is the path of registry-cache-server, built from these sources with the race detector.
var binary string

var _ = SynchronizedBeforeSuite(func() []byte {
	path, err := gexec.BuildWithEnvironment("github.com/larder-project/larder/cmd/registry-cache-server", []string{"CGO_ENABLED=1"}, "-race")
	Expect(err).NotTo(HaveOccurred())
	return []byte(path)
}, func(path []byte) {
	binary = string(path)
})

var _ = SynchronizedAfterSuite(func() {}, func() {
	gexec.CleanupBuildArtifacts()
})

func TestCacheServer(t *testing.T) {
	logrus.SetOutput(GinkgoWriter)
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(time.Minute)
	RunSpecs(t, "Cache Server Suite")
}
