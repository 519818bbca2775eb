// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// heavy lists packages that the server does not need and that took a third of its compile time. A single import brings
// them back, for example that of a storage driver of Distribution.
var heavy = []string{
	"cloud.google.com/",
	"github.com/Azure/",
	"github.com/aws/aws-sdk-go-v2/config",
	"github.com/aws/aws-sdk-go-v2/credentials",
	"github.com/aws/aws-sdk-go-v2/feature/",
	"github.com/distribution/distribution/v3/registry/storage/driver/base",
	"github.com/distribution/distribution/v3/tracing",
	"github.com/gardener/",
	"go.opentelemetry.io/contrib/",
	"go.opentelemetry.io/otel/exporters/",
	"go.opentelemetry.io/otel/sdk/",
	"google.golang.org/api/",
	"google.golang.org/grpc",
	"k8s.io/api/",
	"k8s.io/apimachinery/pkg/apis/",
	"k8s.io/client-go/",
}

var _ = Describe("registry-cache-server", func() {
	It("does not link heavy packages", func() {
		output, err := exec.Command("go", "list", "-deps", ".").Output()
		Expect(err).NotTo(HaveOccurred())
		packages := strings.Fields(string(output))
		Expect(packages).To(ContainElement("github.com/distribution/distribution/v3/registry/handlers"))

		packages = slices.DeleteFunc(packages, func(name string) bool {
			return !slices.ContainsFunc(heavy, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		})
		Expect(packages).To(BeEmpty())
	})
})
