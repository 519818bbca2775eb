// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/larder-project/larder/pkg/credentials"
)

// asker is a Gate in a bubble of package synctest, in front of an upstream.
type asker struct {
	Gomega
	gate    *Gate
	handler http.Handler

	mu sync.Mutex
	// respond is what the upstream responds, after a time. Down is whether it counts as down, and probes counts the probes
	// that the Gate has taken.
	respond func(repository, path, password string) error
	takes   time.Duration
	down    bool
	probes  int
	asked   []string // the passwords, "" for anonymous requests
	// asking is how many questions with a password are being asked, mostAsking the most at a time.
	asking, mostAsking int
}

func (a *asker) Authorize(ctx context.Context, repository, path string, c credentials.Credential, _ time.Duration) (time.Time, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, c.Password)
	asOf, takes, respond := time.Now(), a.takes, a.respond
	if c.Password != "" {
		a.asking++
		a.mostAsking = max(a.mostAsking, a.asking)
		defer func() { a.asking-- }()
	}
	a.mu.Unlock()
	defer a.mu.Lock()
	select {
	case <-time.After(takes):
		return asOf, respond(repository, path, c.Password)
	case <-ctx.Done():
		return asOf, context.Cause(ctx)
	}
}

// AuthorizeOwn asks as the credential of the cache, whose password is "own".
func (a *asker) AuthorizeOwn(ctx context.Context, repository, path string) (time.Time, error) {
	return a.Authorize(ctx, repository, path, credentials.Credential{Password: "own"}, 0)
}

func (a *asker) Down(func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down {
		a.probes++
	}
	return a.down
}

func (a *asker) Healthy() bool { return !a.down }

// inBubble tests a Gate whose upstream serves everything to those with the password "good".
func inBubble(t *testing.T, f func(a *asker)) {
	synctest.Test(t, func(t *testing.T) {
		a := &asker{Gomega: NewWithT(t), respond: onlyGood}
		log, _ := test.NewNullLogger()
		var err error
		a.gate, err = New(Options{Mode: PullSecrets, GrantDuration: 5 * time.Minute, OutageGrantDuration: 24 * time.Hour}, Dependencies{
			Upstream: a, Health: a, Guests: NewGuests(), Observe: func(string) {}, MaxWait: 10 * time.Second, Log: log, Now: time.Now,
			Owns: func(_, _ string, d digest.Digest) bool { return d != uncached },
		})
		a.Expect(err).NotTo(HaveOccurred())
		defer a.gate.Close()
		a.gate.accounts = &file[accounts]{value: accounts{"larder.a": {all: true, passwords: []password{hashOf("p")}}}}
		a.handler = a.gate.Wrap("", func(http.Header) {}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		f(a)
		synctest.Wait()
	})
}

func onlyGood(_, _, password string) error {
	if password == "good" {
		return nil
	}
	return errUnauthorized
}

func always(err error) func(string, string, string) error {
	return func(string, string, string) error { return err }
}

// from returns the status of a request from an address. Without a password, it has no credential.
func (a *asker) from(address, path, user, password string) int {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.RemoteAddr = address
	if password != "" {
		r.SetBasicAuth(user, password)
	}
	w := httptest.NewRecorder()
	a.handler.ServeHTTP(w, r)
	return w.Code
}

func (a *asker) get(path, password string) int { return a.from(here, path, "alice", password) }

// guesses returns how often the upstream saw a password other than the good one.
func (a *asker) guesses() int {
	return len(slices.DeleteFunc(slices.Clone(a.asked), func(password string) bool { return password == "" || password == "good" }))
}
