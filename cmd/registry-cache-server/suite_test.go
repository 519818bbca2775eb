// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"
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

func TestRegistryCacheServer(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Registry Cache Server Suite")
}
