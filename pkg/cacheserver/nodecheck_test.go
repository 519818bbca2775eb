// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver_test

import (
	"io"
	"net"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/landscape/upstream"
)

var _ = DescribeTable("The check of a node gets a response, which is neither logged nor counted", func(withTLS bool) {
	w := newWorld()
	c := w.config(upstream.Private)
	if withTLS {
		c.TLS = w.issue(GinkgoT().TempDir())
	}
	cache := w.start(c)
	before := cache.Err.Contents()
	for range 3 {
		connection, err := net.Dial("tcp", cache.Address())
		Expect(err).NotTo(HaveOccurred())
		_, err = io.WriteString(connection, "GET / HTTP/1.0\r\n\r\n")
		Expect(err).NotTo(HaveOccurred())
		response, err := io.ReadAll(connection)
		Expect(err).NotTo(HaveOccurred())
		Expect(string(response)).To(HavePrefix("HTTP/"))
		Expect(connection.Close()).To(Succeed())
	}
	Expect(cache.Err.Contents()).To(Equal(before))
	_, metrics := cache.debug("/metrics")
	Expect(metrics).NotTo(ContainSubstring("registry_http_requests_total{"))
	cache.stop()
},
	Entry("with TLS", true),
	Entry("without TLS", false),
)
