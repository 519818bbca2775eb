// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
)

func TestTheAccessLogCountsWhatTheKernelSends(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		g := NewWithT(t)
		path := filepath.Join(t.TempDir(), "blob")
		g.Expect(os.WriteFile(path, make([]byte, 3<<20), 0o600)).To(Succeed())
		log := gbytes.NewBuffer()
		server := httptest.NewUnstartedServer(accessLogged(log, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, direct := w.(io.ReaderFrom)
			g.Expect(direct).To(Equal(!http2))
			g.Expect(http.NewResponseController(w).Flush()).To(Succeed())
			http.ServeFile(w, r, path)
		})))
		server.EnableHTTP2 = http2
		server.StartTLS()
		for _, path := range []string{"/a", "/b"} {
			response, err := server.Client().Get(server.URL + path)
			g.Expect(err).NotTo(HaveOccurred())
			body, err := io.ReadAll(response.Body)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(response.Body.Close()).To(Succeed())
			g.Expect(bytes.Equal(body, make([]byte, 3<<20))).To(BeTrue())
			g.Eventually(log).Should(gbytes.Say(`"GET %s HTTP/[12].[01]" 200 3145728 `, path))
		}
		server.Close()
	}
}
