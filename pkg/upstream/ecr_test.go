// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/upstream"
)

var _ = Describe("ParseECR", func() {
	DescribeTable("parses the hosts of Amazon ECR", func(host string, expected upstream.ECR) {
		registry, ok := upstream.ParseECR(host)
		Expect(ok).To(BeTrue())
		Expect(registry).To(Equal(expected))
	},
		Entry("standard", "123456789012.dkr.ecr.eu-central-1.amazonaws.com", upstream.ECR{AccountID: "123456789012", Region: "eu-central-1"}),
		Entry("dual stack", "123456789012.dkr-ecr.eu-central-1.on.aws", upstream.ECR{AccountID: "123456789012", Region: "eu-central-1", DualStack: true}),
		Entry("FIPS", "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", upstream.ECR{AccountID: "123456789012", Region: "us-east-1", FIPS: true}),
		Entry("FIPS, dual stack", "123456789012.dkr-ecr-fips.us-east-1.on.aws", upstream.ECR{AccountID: "123456789012", Region: "us-east-1", FIPS: true, DualStack: true}),
		Entry("GovCloud", "123456789012.dkr.ecr.us-gov-west-1.amazonaws.com", upstream.ECR{AccountID: "123456789012", Region: "us-gov-west-1"}),
		Entry("China", "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", upstream.ECR{AccountID: "123456789012", Region: "cn-north-1"}),
		Entry("China, dual stack", "123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", upstream.ECR{AccountID: "123456789012", Region: "cn-north-1", DualStack: true}),
		Entry("European Sovereign Cloud", "123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", upstream.ECR{AccountID: "123456789012", Region: "eusc-de-east-1"}),
		Entry("isolated", "123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", upstream.ECR{AccountID: "123456789012", Region: "us-iso-east-1"}),
		Entry("public gallery", "public.ecr.aws", upstream.ECR{Public: true, Region: "us-east-1"}),
		Entry("public gallery, dual stack", "ecr-public.aws.com", upstream.ECR{Public: true, Region: "us-east-1", DualStack: true}),
	)

	DescribeTable("refuses other hosts", func(host string) {
		_, ok := upstream.ParseECR(host)
		Expect(ok).To(BeFalse())
	},
		Entry("nothing", ""),
		Entry("another registry", "ghcr.io"),
		Entry("a short account", "12345678901.dkr.ecr.eu-central-1.amazonaws.com"),
		Entry("no region", "123456789012.dkr.ecr.amazonaws.com"),
		Entry("two regions", "123456789012.dkr.ecr.eu-central-1.example.amazonaws.com"),
		Entry("a domain that ends like Amazon's", "123456789012.dkr.ecr.eu-central-1.amazonaws.com.example.com"),
		Entry("a host below", "x.123456789012.dkr.ecr.eu-central-1.amazonaws.com"),
		Entry("a port", "123456789012.dkr.ecr.eu-central-1.amazonaws.com:443"),
		Entry("a line end", "public.ecr.aws\n"),
	)
})
