// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package response_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	gorillahandlers "github.com/gorilla/handlers"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/response"
	"github.com/larder-project/larder/pkg/limit"
)

const size = 3<<20 + 7

// serve starts a server whose wrapped handler runs below an access log.
func serve(t *testing.T, http2 bool, handler http.HandlerFunc) (server *httptest.Server, log *gbytes.Buffer) {
	t.Helper()
	log = gbytes.NewBuffer()
	server = httptest.NewUnstartedServer(gorillahandlers.CombinedLoggingHandler(log, response.Guard(handler)))
	response.Wrap(server.Config, time.Minute, nil, logrus.New(), func(event.Event) {})
	server.EnableHTTP2 = http2
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, log
}

func TestWrappersCountTheBytesOfABody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, http2 := range []bool{false, true} {
		g := NewWithT(t)
		server, log := serve(t, http2, func(w http.ResponseWriter, r *http.Request) {
			file, err := os.Open(path)
			g.Expect(err).NotTo(HaveOccurred())
			defer file.Close()
			body := response.NewBody(r.Context(), w)
			http.ServeContent(body, r, "", time.Time{}, file)
			written, err := body.Finish()
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(written).To(BeEquivalentTo(size))
		})
		for range 2 {
			r, err := server.Client().Get(server.URL + "/blob")
			g.Expect(err).NotTo(HaveOccurred())
			content, err := io.ReadAll(r.Body)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(r.Body.Close()).To(Succeed())
			g.Expect(bytes.Equal(content, make([]byte, size))).To(BeTrue())
			g.Eventually(log).Should(gbytes.Say(`"GET /blob HTTP/[12].[01]" 200 %d `, size))
		}
	}
}

func TestAnAbortedResponseIsLoggedAndIncomplete(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		g := NewWithT(t)
		server, log := serve(t, http2, func(w http.ResponseWriter, r *http.Request) {
			body := response.NewBody(r.Context(), w)
			body.WriteHeader(http.StatusOK)
			_, _ = body.Parts().Write(make([]byte, size))
			body.Fail(errors.New("the source broke off"))
			_, err := body.Finish()
			g.Expect(err).To(HaveOccurred())
			panic(http.ErrAbortHandler)
		})
		r, err := server.Client().Get(server.URL + "/blob")
		g.Expect(err).NotTo(HaveOccurred())
		content, err := io.ReadAll(r.Body)
		g.Expect(err).To(HaveOccurred())
		g.Expect(content).To(HaveLen(size))
		g.Expect(r.Body.Close()).To(Succeed())
		g.Eventually(log).Should(gbytes.Say(`"GET /blob HTTP/[12].[01]" 200 %d `, size))
	}
}

func TestOtherPanicsPassTheGuard(t *testing.T) {
	handler := response.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("bug") }))
	NewWithT(t).Expect(func() {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}).To(PanicWith("bug"))
}

func TestAnAbortPassesTheGuardOutsideOfAWrappedServer(t *testing.T) {
	handler := response.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	NewWithT(t).Expect(func() {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}).To(PanicWith(http.ErrAbortHandler))
}

func TestARateLimitTellsTheClientWhenToTryAgain(t *testing.T) {
	g := NewWithT(t)
	server, _ := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		err := response.Error(r.Context(), &remote.Error{Reason: remote.RateLimited, RetryAfter: 1500 * time.Millisecond}, nil)
		http.Error(w, err.Error(), http.StatusTooManyRequests)
	})
	r, err := server.Client().Get(server.URL)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.Body.Close()).To(Succeed())
	g.Expect(r.Header.Get("Retry-After")).To(Equal("2"))
}

func TestErrorsDoNotShowInternalDetails(t *testing.T) {
	for _, test := range []struct {
		err      error
		expected string
	}{
		{fmt.Errorf("open /var/lib/registry/secret: %w", os.ErrPermission), "see the log of the cache"},
		{fmt.Errorf("wait: %w", limit.ErrBusy), limit.ErrBusy.Error()},
		{context.Canceled, "the request ended early"},
	} {
		NewWithT(t).Expect(response.Error(t.Context(), test.err, nil)).To(MatchError(And(
			ContainSubstring(test.expected), Not(ContainSubstring("/var/lib")))))
	}
}
