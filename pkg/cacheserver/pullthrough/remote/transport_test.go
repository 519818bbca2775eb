// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/connection"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

var _ = Describe("Transport", func() {
	It("trusts a CA bundle, and resumes TLS sessions", func(ctx context.Context) {
		var resumed []bool
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			resumed = append(resumed, r.TLS.DidResume)
			w.Header().Set("Connection", "close")
		}))
		defer server.Close()
		bundle := filepath.Join(GinkgoT().TempDir(), "ca.crt")
		certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		Expect(os.WriteFile(bundle, certificate, 0o600)).To(Succeed())
		c, err := remote.New(remote.Options{
			URL: server.URL, Connection: connection.Files{CABundle: bundle}, Observer: newObserver(), Timeouts: remote.DefaultTimeouts,
		})
		Expect(err).NotTo(HaveOccurred())
		defer c.Close()
		for range 2 {
			_, err := c.Resolve(ctx, "a", "v1")
			Expect(err).NotTo(HaveOccurred())
		}
		Expect(resumed).To(Equal([]bool{false, true}))
	})
})
