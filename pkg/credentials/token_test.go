// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentials_test

import (
	"encoding/base64"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/credentials"
)

var _ = Describe("TokenExpiry", func() {
	token := func(payload string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".signature"
	}

	It("returns when a token expires", func() {
		expires, ok := credentials.TokenExpiry(token(`{"exp":1900000000.5,"iat":1800000000,"aud":["x"]}`))
		Expect(ok).To(BeTrue())
		Expect(expires).To(Equal(time.Unix(1900000000, 0)))
	})

	DescribeTable("returns no time of", func(token string) {
		_, ok := credentials.TokenExpiry(token)
		Expect(ok).To(BeFalse())
	},
		Entry("nothing", ""),
		Entry("an opaque token", "ya29.token"),
		Entry("a payload that is not base64", "e30.?.x"),
		Entry("a payload that is not JSON", token("x")),
		Entry("a token without the claim", token(`{}`)),
		Entry("a text", token(`{"exp":"1900000000"}`)),
		Entry("a time before the epoch", token(`{"exp":-1}`)),
		Entry("a nonsensical time", token(`{"exp":1e300}`)),
	)
})
