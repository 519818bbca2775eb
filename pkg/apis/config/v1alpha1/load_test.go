// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"os"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/apis/config/v1alpha1"
)

const header = "apiVersion: config.registry.extensions.gardener.cloud/v1alpha1\nkind: Configuration\n"

var _ = Describe("Load", func() {
	load := func(content string) (*v1alpha1.Configuration, error) {
		GinkgoHelper()
		filename := filepath.Join(GinkgoT().TempDir(), "config.yaml")
		Expect(os.WriteFile(filename, []byte(content), 0o600)).To(Succeed())
		return v1alpha1.Load(filename)
	}

	It("sets defaults", func() {
		for _, content := range []string{header, header + "healthCheckConfig: {}"} {
			configuration, err := load(content)
			Expect(err).NotTo(HaveOccurred())
			Expect(configuration.HealthCheckConfig.SyncPeriod.Duration).To(Equal(30 * time.Second))
			Expect(configuration.HealthCheckConfig.ShootRESTOptions).To(BeNil())
		}
	})

	It("reads the fields of the file", func() {
		configuration, err := load(header + "healthCheckConfig:\n  syncPeriod: 1m\n  shootRESTOptions:\n    burst: 5")
		Expect(err).NotTo(HaveOccurred())
		Expect(configuration.HealthCheckConfig.SyncPeriod.Duration).To(Equal(time.Minute))
		Expect(configuration.HealthCheckConfig.ShootRESTOptions.Burst).To(HaveValue(Equal(5)))
	})

	It("names a missing file", func() {
		_, err := v1alpha1.Load("missing.yaml")
		Expect(err).To(MatchError(ContainSubstring("missing.yaml")))
	})

	DescribeTable("refuses invalid files",
		func(content, message string) {
			_, err := load(content)
			Expect(err).To(MatchError(And(ContainSubstring("config.yaml"), ContainSubstring(message))))
		},
		Entry("empty", "", "Kind"),
		Entry("no type", "healthCheckConfig: {}", "Kind"),
		Entry("another kind", "apiVersion: config.registry.extensions.gardener.cloud/v1alpha1\nkind: Config", "Config"),
		Entry("another version", "apiVersion: config.registry.extensions.gardener.cloud/v1\nkind: Configuration", "v1"),
		Entry("unknown field", header+"healthChecks: {}", `unknown field "healthChecks"`),
		Entry("duplicate field", header+"healthCheckConfig: {}\nhealthCheckConfig: {}", "already set"),
		Entry("period that exceeds a duration", header+"healthCheckConfig: {syncPeriod: 1e999999999h}", "duration"),
		Entry("number with an exponent", header+"healthCheckConfig: {syncPeriod: 1s, shootRESTOptions: {burst: 1e999999999}}", ""),
		Entry("negative period", header+"healthCheckConfig: {syncPeriod: -1s}", "syncPeriod"),
	)
})
