// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package referrers_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/test/enginetest"
	"github.com/larder-project/larder/test/upstreamsim"
)

const name = enginetest.Name

var _ = Describe("Referrers", func() {
	enginetest.ExpectNoLeaks()

	It("does not pass on a document that is not a list of referrers", func(ctx context.Context) {
		portal := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<html>please log in</html>")
		}))
		defer portal.Close()
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.RemoteURL = portal.URL })
		response, body := c.Get(ctx, "/v2/"+name+"/referrers/"+digest.FromString("subject").String(), http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusNotFound), "clients look for a tag then")
		Expect(string(body)).NotTo(ContainSubstring("log in"))
	})
})
