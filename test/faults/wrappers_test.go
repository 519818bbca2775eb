// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"strings"
)

// wrapper gives an upstream a peculiarity.
type wrapper func(registry http.Handler) http.Handler

// instead replaces the responses to the requests that match a condition.
func instead(concerns func(*http.Request) bool, response http.HandlerFunc) wrapper {
	return func(registry http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if concerns(r) {
				response(w, r)
				return
			}
			registry.ServeHTTP(w, r)
		})
	}
}

// changed changes the responses to the requests that match a condition.
func changed(concerns func(*http.Request) bool, change func(*httptest.ResponseRecorder, *http.Request)) wrapper {
	return func(registry http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !concerns(r) {
				registry.ServeHTTP(w, r)
				return
			}
			recorder := httptest.NewRecorder()
			registry.ServeHTTP(recorder, r)
			change(recorder, r)
			for name, values := range recorder.Header() {
				w.Header()[name] = values
			}
			w.WriteHeader(recorder.Code)
			if r.Method != http.MethodHead {
				_, _ = w.Write(recorder.Body.Bytes())
			}
		})
	}
}

// status responds with a status only.
func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// breaksOff closes the connection without a response.
func breaksOff(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// portal responds with the login page of a captive portal.
func portal(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte("<html><body>please log in</body></html>"))
}

func anything(*http.Request) bool { return true }

// to matches requests with a method, or any if it is empty, to a kind of object, such as "/manifests/".
func to(method, kind string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return (method == "" || r.Method == method) && strings.HasPrefix(r.URL.Path, "/v2/") && strings.Contains(r.URL.Path, kind)
	}
}

// compressed compresses a response, as proxies do.
func compressed(recorder *httptest.ResponseRecorder, _ *http.Request) {
	content := recorder.Body.String()
	recorder.Body.Reset()
	zip := gzip.NewWriter(recorder.Body)
	_, _ = zip.Write([]byte(content))
	_ = zip.Close()
	recorder.Header().Set("Content-Encoding", "gzip")
	recorder.Header().Del("Content-Length")
}
