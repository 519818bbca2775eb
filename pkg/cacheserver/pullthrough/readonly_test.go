// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
)

// untouchable is a body that must not be read.
type untouchable struct{}

func (untouchable) Read([]byte) (int, error) {
	defer GinkgoRecover()
	Fail("the body was read")
	return 0, errors.New("read")
}

var _ = Describe("ReadOnly", func() {
	api := pullthrough.API{Header: http.Header{"X-Content-Type-Options": {"nosniff"}}}
	serve := func(method string, next http.HandlerFunc) *httptest.ResponseRecorder {
		request := httptest.NewRequest(method, "/v2/library/app/blobs/uploads/", untouchable{})
		request.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		recorder := httptest.NewRecorder()
		api.ReadOnly(next).ServeHTTP(recorder, request)
		return recorder
	}

	DescribeTable("refuses to write, and reads no body", func(method string) {
		recorder := serve(method, func(http.ResponseWriter, *http.Request) { Fail("it was let through") })
		Expect(recorder.Code).To(Equal(http.StatusMethodNotAllowed))
		Expect(recorder.Header()).To(And(
			HaveKeyWithValue("Allow", []string{"GET, HEAD, OPTIONS"}),
			HaveKeyWithValue("Connection", []string{"close"}),
			HaveKeyWithValue("X-Content-Type-Options", []string{"nosniff"}),
		))
		Expect(recorder.Body.String()).To(ContainSubstring("UNSUPPORTED"))
	},
		Entry(nil, http.MethodPut),
		Entry(nil, http.MethodPost),
		Entry(nil, http.MethodPatch),
		Entry(nil, http.MethodDelete),
		Entry(nil, http.MethodConnect),
		Entry(nil, http.MethodTrace),
		Entry(nil, "BREW"),
	)

	DescribeTable("lets through without a body", func(method string) {
		through := false
		serve(method, func(_ http.ResponseWriter, r *http.Request) {
			through = true
			Expect(r.Method).To(Equal(method))
			Expect(r.FormValue("from")).To(BeEmpty())
			Expect(io.ReadAll(r.Body)).To(BeEmpty())
		})
		Expect(through).To(BeTrue())
	},
		Entry(nil, http.MethodGet),
		Entry(nil, http.MethodHead),
		Entry(nil, http.MethodOptions),
	)
})
