// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"fmt"
	"net/http"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

var _ = Describe("Error", func() {
	DescribeTable("knows whether to try again", func(reason remote.Reason, metric string, temporary bool) {
		err := &remote.Error{Reason: reason}
		Expect(err.Temporary()).To(Equal(temporary))
		Expect(reason.String()).To(Equal(metric))

		found, ok := remote.ReasonOf(fmt.Errorf("fetch blob: %w", err))
		Expect(ok).To(BeTrue())
		Expect(found).To(Equal(reason))
	},
		Entry("later if the upstream is down", remote.Unavailable, "unavailable", true),
		Entry("later if the upstream limits the rate", remote.RateLimited, "rate_limited", true),
		Entry("not for a missing object", remote.NotFound, "not_found", false),
		Entry("not for a rejected credential", remote.Unauthorized, "unauthorized", false),
		Entry("not for an invalid response", remote.Invalid, "invalid", false),
	)

	It("differs from local errors", func() {
		_, ok := remote.ReasonOf(context.Canceled)
		Expect(ok).To(BeFalse())
		Expect(remote.StatusOf(context.Canceled)).To(BeZero())
	})

	It("knows whether the upstream responded", func() {
		Expect((&remote.Error{Status: http.StatusBadGateway}).Responded()).To(BeTrue())
		Expect((&remote.Error{}).Responded()).To(BeFalse())
	})
})
