// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package connection

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/test/pki"
)

// Most of the behavior is tested with real servers, in package pullthrough.
var _ = Describe("Transport", func() {
	var (
		dir     string
		log     *gbytes.Buffer
		options Options
	)

	BeforeEach(func() {
		dir, log = GinkgoT().TempDir(), gbytes.NewBuffer()
		logger := logrus.New()
		logger.SetOutput(log)
		options = Options{Connect: time.Minute, FirstByte: time.Minute, KeepAlive: time.Minute, Log: logger}
	})

	write := func(name string, content []byte) string {
		GinkgoHelper()
		path := filepath.Join(dir, name)
		Expect(os.WriteFile(path, content, 0o600)).To(Succeed())
		return path
	}
	// identify writes a client certificate that expires in the given time.
	identify := func(left time.Duration) {
		GinkgoHelper()
		authority, err := pki.NewAuthority("ca")
		Expect(err).NotTo(HaveOccurred())
		pair, err := authority.Issue(pki.Request{CommonName: "client", Lifetime: left})
		Expect(err).NotTo(HaveOccurred())
		options.Files.ClientCertificate, options.Files.ClientKey = write("tls.crt", pair.Certificate), write("tls.key", pair.Key)
	}

	DescribeTable("warns about a client certificate that expires within 30 days", func(left time.Duration, warns bool) {
		identify(left)
		t, err := New(options)
		Expect(err).NotTo(HaveOccurred())
		if !warns {
			Expect(log.Contents()).To(BeEmpty())
			return
		}
		Expect(log).To(gbytes.Say("Client certificate expires soon"))
		t.warn(time.Now().Add(warnInterval - time.Minute))
		Expect(log).NotTo(gbytes.Say("Client certificate expires soon"))
		t.warn(time.Now().Add(warnInterval + time.Minute))
		Expect(log).To(gbytes.Say("Client certificate expires soon"))
	},
		Entry("soon", expiresSoon-time.Hour, true),
		Entry("already", -time.Hour, true),
		Entry("later", expiresSoon+time.Hour, false),
	)

	It("warns about a client certificate that has come close to its expiry", func() {
		identify(expiresSoon + time.Hour)
		t, err := New(options)
		Expect(err).NotTo(HaveOccurred())
		t.warn(time.Now().Add(2 * time.Hour))
		Expect(log).To(gbytes.Say("Client certificate expires soon"))
	})

	It("logs a problem once until it changes", func() {
		identify(365 * 24 * time.Hour)
		t, err := New(options)
		Expect(err).NotTo(HaveOccurred())
		write("tls.key", []byte("broken"))
		t.reload()
		t.reload()
		Expect(os.Remove(filepath.Join(dir, "tls.key"))).To(Succeed())
		t.reload()
		Expect(strings.Count(string(log.Contents()), "Ignored changed files")).To(Equal(2))
		Expect(log).To(gbytes.Say("do not match"))
		Expect(log).To(gbytes.Say("no such file"))
	})

	It("keeps a running response when files change, and connects again for the next one", func() {
		var mu sync.Mutex
		addresses := map[string]bool{}
		proceed := make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			addresses[r.RemoteAddr] = true
			mu.Unlock()
			_, _ = w.Write([]byte("a"))
			w.(http.Flusher).Flush()
			<-proceed
			_, _ = w.Write([]byte("b"))
		}))
		defer server.Close()
		identify(365 * 24 * time.Hour)
		t, err := New(options)
		Expect(err).NotTo(HaveOccurred())
		client := &http.Client{Transport: t}
		defer client.CloseIdleConnections()
		response, err := client.Get(server.URL)
		Expect(err).NotTo(HaveOccurred())

		identify(365 * 24 * time.Hour)
		t.reload()
		close(proceed)
		Expect(response).To(HaveHTTPBody("ab"))
		response, err = client.Get(server.URL)
		Expect(err).NotTo(HaveOccurred())
		Expect(response).To(HaveHTTPBody("ab"))
		mu.Lock()
		defer mu.Unlock()
		Expect(addresses).To(HaveLen(2))
	})

	DescribeTable("refuses files that it cannot use at the start", func(content []byte, message string) {
		options.Files.CABundle = write("ca.crt", content)
		_, err := New(options)
		Expect(err).To(MatchError(ContainSubstring(message)))
		Expect(err).NotTo(MatchError(ContainSubstring("s3cret")))
	},
		Entry("empty", nil, "is empty"),
		Entry("no certificate", []byte("s3cret"), "contains no certificate"),
		Entry("too large", []byte(strings.Repeat("s3cret", 1<<18)), "is larger than"),
	)
})
