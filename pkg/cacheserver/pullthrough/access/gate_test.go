// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/credentials"
)

// The ways in which an upstream refuses a request.
var (
	errUnauthorized = &remote.Error{Reason: remote.Unauthorized, Status: http.StatusUnauthorized}
	errForbidden    = &remote.Error{Reason: remote.Unauthorized, Status: http.StatusForbidden}
	errLogin        = &remote.Error{Reason: remote.Unauthorized, Status: http.StatusUnauthorized, Login: true}
	errNotFound     = &remote.Error{Reason: remote.NotFound, Status: http.StatusNotFound}
	errMissing      = &remote.Error{Reason: remote.NotFound, Status: http.StatusNotFound, LoggedIn: true}
	errRateLimited  = &remote.Error{Reason: remote.RateLimited, Status: http.StatusTooManyRequests, RetryAfter: 30 * time.Second}
	errSilent       = &remote.Error{Reason: remote.Unavailable}
	errPage         = &remote.Error{Reason: remote.Invalid, Status: http.StatusOK}
)

func errStatus(status int) error { return &remote.Error{Reason: remote.Unavailable, Status: status} }

const (
	tag = "/v2/team/app/manifests/v1"
	// The address of one client, and that of another.
	here, there = "192.0.2.1:4711", "192.0.2.2:4711"
)

var (
	manifest = "/v2/team/app/manifests/" + digest.FromString("manifest").String()
	layer    = "/v2/team/app/blobs/" + digest.FromString("layer").String()
	// uncached is part of no repository yet.
	uncached = digest.FromString("uncached")
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
}

func (a *asker) Authorize(ctx context.Context, repository, path string, c credentials.Credential, _ time.Duration) (time.Time, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, c.Password)
	asOf, takes, respond := time.Now(), a.takes, a.respond
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

func TestOnlyAnOutageExtendsAGrantForLong(t *testing.T) {
	for name, test := range map[string]struct {
		err error
		// The status after six minutes, twenty minutes and twenty hours, and the first for what is public.
		soon, later, latest, public int
	}{
		"no response":         {errSilent, 200, 200, 200, 200},
		"a server error":      {errStatus(http.StatusInternalServerError), 200, 200, 200, 200},
		"a gateway error":     {errStatus(http.StatusBadGateway), 200, 200, 200, 200},
		"a rate limit":        {errRateLimited, 200, 429, 429, 401},
		"a web page":          {errPage, 503, 503, 503, 401},
		"an invalid request":  {errStatus(http.StatusBadRequest), 503, 503, 503, 401},
		"a conflict":          {errStatus(http.StatusConflict), 503, 503, 503, 401},
		"a misdirected host":  {errStatus(http.StatusMisdirectedRequest), 503, 503, 503, 401},
		"a permission denied": {errForbidden, 403, 403, 403, 401},
		"a wrong password":    {errLogin, 403, 403, 403, 401},
		"a hidden repository": {errNotFound, 404, 404, 404, 401},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(a *asker) {
				a.Expect(a.get(tag, "good")).To(Equal(200))
				a.respond = always(nil)
				a.Expect(a.get("/v2/library/base/manifests/v1", "")).To(Equal(200))
				a.respond = always(test.err)
				time.Sleep(6 * time.Minute)
				a.Expect(a.get(tag, "good")).To(Equal(test.soon))
				a.Expect(a.get("/v2/library/base/manifests/v1", "")).To(Equal(test.public))
				time.Sleep(14 * time.Minute)
				a.Expect(a.get(tag, "good")).To(Equal(test.later))
				time.Sleep(20 * time.Hour)
				a.Expect(a.get(tag, "good")).To(Equal(test.latest))
				time.Sleep(4 * time.Hour)
				a.Expect(a.get(tag, "good")).NotTo(Equal(200))
			})
		})
	}
}

func TestNothingButARefusalIsRemembered(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.Expect(a.get(tag, "good")).To(Equal(200))
		time.Sleep(6 * time.Minute)
		a.respond = always(errStatus(http.StatusMisdirectedRequest))
		a.Expect(a.get(tag, "good")).To(Equal(503))
		a.respond = onlyGood
		a.Expect(a.get(tag, "good")).To(Equal(200))
	})
}

func TestSlowUpstreamDecidesLikeAnyOther(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.Expect(a.get(tag, "good")).To(Equal(200))
		a.respond, a.takes = always(errUnauthorized), 5*time.Second
		time.Sleep(20 * time.Hour)
		a.Expect(a.get(tag, "good")).To(Equal(403))
	})
}

func TestBusyGateExtendsNoGrant(t *testing.T) {
	inBubble(t, func(a *asker) {
		paths := []string{tag}
		for i := range maxAsking {
			paths = append(paths, fmt.Sprintf("/v2/team/app%d/manifests/v1", i))
		}
		for _, path := range paths {
			a.Expect(a.get(path, "good")).To(Equal(200))
		}
		time.Sleep(6 * time.Minute)
		a.takes = time.Minute
		var done sync.WaitGroup
		for _, path := range paths[1:] {
			done.Go(func() { a.get(path, "good") })
		}
		synctest.Wait()
		a.Expect(a.get(tag, "good")).To(Equal(503))
		done.Wait()
	})
}

func TestDenialEndsAllGrantsInTheRepository(t *testing.T) {
	blob := "/v2/team/app/blobs/" + uncached.String()
	for name, test := range map[string]struct {
		err  error
		path string
		wait time.Duration
	}{
		"by tag":             {errUnauthorized, tag, 6 * time.Minute},
		"by digest":          {errForbidden, manifest, 6 * time.Minute},
		"by blob":            {errUnauthorized, layer, 6 * time.Minute},
		"by a blob, at once": {errUnauthorized, "/v2/team/app/blobs/" + digest.FromString("uncached").String(), 4 * time.Minute},
		"hidden":             {errNotFound, tag, 6 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(a *asker) {
				for _, path := range []string{tag, manifest, layer} {
					a.Expect(a.get(path, "good")).To(Equal(200))
				}
				if test.path != blob {
					a.Expect(a.get(blob, "good")).To(Equal(200))
				}
				time.Sleep(test.wait)
				a.respond = always(test.err)
				a.Expect(a.get(test.path, "good")).To(BeElementOf(403, 404))
				a.respond, a.down = always(errSilent), true
				time.Sleep(11 * time.Minute)
				for _, path := range []string{tag, manifest, layer, blob} {
					a.Expect(a.get(path, "good")).To(Equal(503), path)
				}
				_, ok := a.gate.Guests.For("team/app", nil)
				a.Expect(ok).To(BeFalse())
				a.Expect(a.gate.clients.held).To(BeEmpty())
			})
		})
	}
}

func TestMissingTagEndsNoGrantThatCounts(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.Expect(a.get(tag, "good")).To(Equal(200))
		a.respond = always(errNotFound)
		a.Expect(a.get("/v2/team/app/blobs/"+uncached.String(), "good")).To(Equal(404))
		a.Expect(a.get(tag, "good")).To(Equal(200))
	})
}

func TestInvalidNamesAreNotLookedUp(t *testing.T) {
	for _, path := range []string{
		"/v2/team/app/blobs/x", "/v2/team/app/blobs/sha256:x", "/v2/team/app/manifests/sha256:x", "/v2/team/app/referrers/v1",
		"/v2/team/../app/blobs/" + uncached.String(),
	} {
		inBubble(t, func(a *asker) {
			a.Expect(a.get(tag, "good")).To(Equal(200))
			a.gate.Owns = func(kind, repository string, d digest.Digest) bool {
				t.Errorf("looked up %s %s of %s", kind, d, repository)
				return false
			}
			a.asked = nil
			for _, password := range []string{"", "good", "wrong"} {
				a.Expect(a.get(path, password)).To(Equal(404), path)
			}
			a.Expect(a.asked).To(BeEmpty())
		})
	}
}

func TestOnlyClientsWithAGrantMakeTheGateLookAtTheVolume(t *testing.T) {
	inBubble(t, func(a *asker) {
		var looked atomic.Int32
		a.gate.Owns = func(string, string, digest.Digest) bool { looked.Add(1); return true }
		a.Expect(a.get(layer, "")).To(Equal(401))
		a.Expect(a.get(layer, "wrong")).To(Equal(403))
		a.Expect(a.get(layer, "good")).To(Equal(200))
		a.Expect(looked.Load()).To(BeZero())
		a.Expect(a.get(tag, "good")).To(Equal(200))
		time.Sleep(6 * time.Minute)
		a.respond, a.down = always(errSilent), true
		a.Expect(a.get(layer, "good")).To(Equal(200), "by the grant for the repository")
		a.Expect(looked.Load()).NotTo(BeZero())
	})
}

func TestManyClientsShareOneQuestion(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.takes = time.Second
		var done sync.WaitGroup
		for range 64 {
			done.Go(func() { a.Expect(a.get(tag, "good")).To(Equal(200)) })
		}
		done.Wait()
		a.Expect(a.asked).To(ConsistOf("", "good"))
	})
}

func TestOneGoodSecretOpensManyRepositoriesAtOnce(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.takes = 100 * time.Millisecond
		began := time.Now()
		var done sync.WaitGroup
		for i := range 20 {
			done.Go(func() {
				a.Expect(a.get(fmt.Sprintf("/v2/team/app%d/manifests/v1", i), "good")).To(Equal(200))
			})
		}
		time.Sleep(150 * time.Millisecond)
		a.mu.Lock()
		asked := len(slices.DeleteFunc(slices.Clone(a.asked), func(password string) bool { return password == "" }))
		a.mu.Unlock()
		a.Expect(asked).To(Equal(1), "the first question decides about the secret")
		done.Wait()
		a.Expect(time.Since(began)).To(BeNumerically("<", time.Second), "all others are asked together")
	})
}

func TestWrongSecretOfManyRepositoriesIsOneGuess(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.respond = func(_, _, password string) error {
			if password == "fresh" {
				return nil
			}
			return errLogin
		}
		var done sync.WaitGroup
		expired := []string{"expired 1", "expired 2", "expired 3", "expired 4"}
		for i := range 80 {
			done.Go(func() {
				a.Expect(a.from(here, fmt.Sprintf("/v2/x/app%d/manifests/v1", i), "AWS", expired[i%len(expired)])).To(BeElementOf(403, 429))
			})
		}
		done.Wait()
		a.Expect(a.guesses()).To(Equal(len(expired) * maxCredentialGuesses))
		a.Expect(a.from(here, tag, "AWS", "fresh")).To(Equal(200), "another secret with the same user name")
	})
}

func TestAcceptedSecretNoLongerCountsAsRefused(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.respond = func(repository, _, password string) error {
			if repository == "team/app" && password != "" {
				return nil
			}
			return errUnauthorized
		}
		for i := range 3 * maxSourceGuesses {
			secret := fmt.Sprint("secret ", i)
			a.Expect(a.get("/v2/typo/app/manifests/v1", secret)).To(Equal(403))
			a.Expect(a.get(tag, secret)).To(Equal(200))
		}
	})
}

func TestKnownSecretNeedNotWaitForGuesses(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.Expect(a.get(tag, "good")).To(Equal(200))
		time.Sleep(6 * time.Minute)
		a.respond = func(repository, path, password string) error {
			if password != "good" {
				time.Sleep(time.Minute)
			}
			return onlyGood(repository, path, password)
		}
		var done sync.WaitGroup
		for i := range 100 {
			done.Go(func() { a.from(fmt.Sprintf("192.0.2.%d:1", i), tag, fmt.Sprint(i), "guess") })
		}
		synctest.Wait()
		began := time.Now()
		a.Expect(a.get(tag, "good")).To(Equal(200))
		a.Expect(time.Since(began)).To(BeZero())
		done.Wait()
	})
}

func TestUpstreamThatCountsAsDownMayStillDeny(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.Expect(a.get(tag, "good")).To(Equal(200))
		time.Sleep(6 * time.Minute)
		a.down, a.takes, a.respond = true, time.Second, always(errUnauthorized)
		began := time.Now()
		a.Expect(a.get(tag, "good")).To(Equal(200))
		a.Expect(time.Since(began)).To(BeZero())
		time.Sleep(2 * time.Second)
		a.Expect(a.get(tag, "good")).To(Equal(403))
	})
}

func TestRepositoryThatBecomesPublicIsNoticed(t *testing.T) {
	inBubble(t, func(a *asker) {
		for range 10 {
			a.Expect(a.get(tag, "")).To(Equal(401))
			time.Sleep(time.Minute)
		}
		a.respond = always(nil)
		time.Sleep(time.Minute)
		a.Expect(a.get(tag, "")).To(Equal(200))
	})
}

func TestOnlyTheUpstreamProvesThatAnObjectIsPartOfARepository(t *testing.T) {
	inBubble(t, func(a *asker) {
		var proven bool
		a.handler = a.gate.Wrap("", func(http.Header) {}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			proven = Proven(r.Context())
		}))
		for range 2 {
			for path, expected := range map[string]bool{tag: false, "/v2/team/app/blobs/" + uncached.String(): true} {
				a.Expect(a.get(path, "good")).To(Equal(200))
				a.Expect(proven).To(Equal(expected), path)
			}
		}
		a.Expect(a.get(layer, "good")).To(Equal(200))
		a.Expect(proven).To(BeFalse(), "it was part of the repository before")
	})
}

// guess sends n requests from one address at once, each with another wrong password.
func (a *asker) guess(n int, user func(i int) string) {
	var done sync.WaitGroup
	for i := range n {
		done.Go(func() {
			a.Expect(a.from(here, tag, user(i), fmt.Sprintf("guess %d", i))).To(BeElementOf(403, 404, 429, 503))
		})
	}
	done.Wait()
}

// guessFrom sends requests from many addresses at once, each with another wrong password.
func (a *asker) guessFrom(addresses, each int, user func(address, i int) string) {
	var done sync.WaitGroup
	for address := range addresses {
		for i := range each {
			done.Go(func() {
				a.from(fmt.Sprintf("10.0.%d.7:1", address), tag, user(address, i), fmt.Sprintf("guess %d %d", address, i))
			})
		}
	}
	done.Wait()
}

func TestGuessesOfOneUserAreLimited(t *testing.T) {
	for name, err := range map[string]error{
		"denies": errUnauthorized, "hides": errNotFound, "limits": errRateLimited, "sends pages": errPage,
	} {
		t.Run("at an upstream that "+name, func(t *testing.T) {
			inBubble(t, func(a *asker) {
				a.takes = time.Second
				a.respond = func(_, _, password string) error {
					if password == "" {
						return errUnauthorized
					}
					return err
				}
				a.guess(500, func(int) string { return "alice" })
				a.Expect(a.guesses()).To(Equal(maxUserSourceGuesses))
				time.Sleep(guessWindow)
				a.respond = onlyGood
				a.Expect(a.get(tag, "good")).To(Equal(200))
			})
		})
	}
}

func TestGuessesFromOneAddressAreLimited(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.guess(500, func(i int) string { return fmt.Sprint(i) })
		a.Expect(a.guesses()).To(Equal(maxSourceGuesses))
		a.Expect(a.from(there, tag, "alice", "good")).To(Equal(200), "from another address")
	})
}

func TestGuessesOfOneUserFromManyAddressesAreLimited(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.takes = time.Second
		a.guessFrom(60, 10, func(int, int) string { return "alice" })
		a.Expect(a.guesses()).To(Equal(maxUserGuesses))
		time.Sleep(guessWindow)
		a.Expect(a.get(tag, "good")).To(Equal(200))
	})
}

func TestGuessesOfOneUserFromFewAddressesLeavePlacesToOthers(t *testing.T) {
	inBubble(t, func(a *asker) {
		guesses := 0
		for node := range 60 {
			for range 20 {
				for _, address := range []string{"192.0.2.7:1", "192.0.2.8:1"} {
					guesses++
					a.Expect(a.from(address, fmt.Sprintf("/v2/x/app%d/manifests/v1", guesses), "AWS", fmt.Sprint("guess ", guesses))).To(BeElementOf(403, 429))
				}
				time.Sleep(500 * time.Millisecond)
			}
			a.gate.guesses.known.Purge() // As if the secret was new.
			a.Expect(a.from(fmt.Sprintf("192.0.3.%d:1", node), fmt.Sprintf("/v2/team/app%d/manifests/v1", node), "AWS", "good")).To(Equal(200))
		}
		a.Expect(a.guesses()).To(BeNumerically("<=", 11*(maxUserGuesses/2+2)))
	})
}

func TestUserNamesDifferNotByCase(t *testing.T) {
	inBubble(t, func(a *asker) {
		names := []string{"alice", "Alice", "ALICE", "aLICE", " alice", "alice "}
		a.guessFrom(60, 1, func(address, _ int) string { return names[address%len(names)] })
		a.Expect(a.guesses()).To(Equal(maxUserGuesses))
	})
	inBubble(t, func(a *asker) {
		a.Expect(a.from(here, tag, "alice", "good")).To(Equal(200))
		a.asked = nil
		a.Expect(a.from(here, tag, "Alice", "good")).To(Equal(200))
		a.Expect(a.asked).To(ContainElement("good"), "for the upstream, it may be another credential")
	})
}

func TestGuessesInAllAreLimited(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.takes = time.Second
		a.guessFrom(100, 10, func(address, i int) string { return fmt.Sprint(address, i) })
		a.Expect(a.guesses()).To(BeNumerically("<=", maxGuesses))
		a.Expect(a.guesses()).To(BeNumerically(">=", maxGuesses/2))
		time.Sleep(guessWindow)
		a.Expect(a.get(tag, "good")).To(Equal(200))
	})
}

func TestGuessesFromFewAddressesLeavePlacesToOthers(t *testing.T) {
	inBubble(t, func(a *asker) {
		for address := range 5 {
			for i := range 2 * maxSourceGuesses {
				a.from(fmt.Sprintf("10.0.%d.7:1", address), tag, fmt.Sprint(address, i), fmt.Sprint("guess", address, i))
			}
		}
		a.Expect(a.guesses()).To(Equal(maxGuesses/2+2), "one from each address beyond the half")
		a.takes = time.Second
		a.guess(maxSourceGuesses, func(i int) string { return fmt.Sprint(i) })
		a.Expect(a.guesses()).To(Equal(maxGuesses/2+3), "even at the same time")
		a.Expect(a.from(there, tag, "alice", "good")).To(Equal(200))
	})
}

func TestGuessesAreLimitedWithinAnyMinute(t *testing.T) {
	inBubble(t, func(a *asker) {
		for i := range 100 {
			a.get(tag, fmt.Sprint("guess ", i))
			time.Sleep(5 * time.Second)
		}
		a.Expect(a.guesses()).To(BeNumerically("<=", maxUserSourceGuesses*(1+500/60)))
		a.Expect(a.guesses()).To(BeNumerically(">", 2*maxUserSourceGuesses), "places become free again")
	})
}

func TestGuessesCountIfTheirClientsLeave(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.takes = time.Second
		for i := range 20 {
			ctx, leave := context.WithTimeout(context.Background(), 1500*time.Millisecond)
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, tag, nil)
			r.SetBasicAuth("alice", fmt.Sprintf("guess %d", i))
			a.handler.ServeHTTP(httptest.NewRecorder(), r)
			leave()
		}
		a.Expect(a.guesses()).To(Equal(maxUserSourceGuesses))
	})
}

func TestGuessesAreForgotten(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.guess(500, func(i int) string { return fmt.Sprint(i) })
		a.Expect(a.gate.guesses.running).To(BeEmpty())
		a.Expect(a.get(tag, "good")).To(Equal(429))
		time.Sleep(guessWindow)
		a.Expect(a.get(tag, "good")).To(Equal(200))
		a.Expect(a.gate.guesses.sharing).To(HaveLen(1))
		time.Sleep(knownFor)
		a.gate.sweep()
		a.Expect(a.gate.guesses.known.Len()).To(BeZero())
		a.Expect(a.gate.guesses.sharing).To(BeEmpty())
		for _, s := range a.gate.guesses.refused.Keys() {
			a.Expect(s.kind).To(Equal(ofCredential))
		}
	})
}

func TestSharedUserNameIsLimitedByItsKnownSecrets(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.respond = func(_, _, password string) error {
			if strings.HasPrefix(password, "good") {
				return nil
			}
			return errUnauthorized
		}
		for i := range 3 {
			a.Expect(a.from(here, tag, "AWS", fmt.Sprint("good ", i))).To(Equal(200))
		}
		for pod := range 30 {
			for i := range 2 {
				a.from(fmt.Sprintf("10.0.%d.7:1", pod), tag, "AWS", fmt.Sprint("guess ", pod, i))
			}
		}
		a.Expect(a.guesses() - 3).To(Equal(3 * maxUserGuesses))
	})
}

func TestSecretThatWasNeverRefusedGoesFirst(t *testing.T) {
	inBubble(t, func(a *asker) {
		wrong := func() {
			for i := range 2 * maxSourceGuesses {
				a.Expect(a.from(here, fmt.Sprintf("/v2/x/app%d/manifests/v1", i), fmt.Sprint(i), fmt.Sprint("wrong ", i))).To(BeElementOf(403, 429))
			}
		}
		for range 4 {
			wrong() // Some were refused for the first time just now, so they may fill the limit.
			time.Sleep(guessWindow)
		}
		wrong()
		a.Expect(a.from(here, tag, "bob", "good")).To(Equal(200))
	})
}

func TestMissingObjectsHoldBackNoSecretWhoseLoginSucceeds(t *testing.T) {
	ask := func(a *asker, n int) {
		a.respond = func(_, path, password string) error {
			switch {
			case password == "":
				return errUnauthorized
			case path == "manifests/v1":
				return nil
			}
			return errMissing
		}
		for i := range n {
			a.Expect(a.get(fmt.Sprintf("/v2/team/app%d/manifests/gone", i), "good")).To(BeElementOf(404, 429))
		}
	}
	t.Run("few", func(t *testing.T) {
		inBubble(t, func(a *asker) {
			ask(a, 20)
			a.Expect(a.get(tag, "good")).To(Equal(200))
		})
	})
	t.Run("although their number is limited", func(t *testing.T) {
		inBubble(t, func(a *asker) {
			ask(a, 200)
			a.Expect(a.asked).To(HaveLen(2*maxSourceQuestions), "with and without the credential")
			a.Expect(a.get(tag, "good")).To(Equal(429))
			a.Expect(a.from(there, tag, "bob", "other")).To(Equal(200))
			time.Sleep(guessWindow)
			a.Expect(a.get(tag, "good")).To(Equal(200))
		})
	})
}

func TestOutageHoldsBackNoSecret(t *testing.T) {
	for name, err := range map[string]error{"server error": errStatus(http.StatusServiceUnavailable), "no response": errSilent} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(a *asker) {
				pull := func(status int) {
					var done sync.WaitGroup
					for i := range 30 {
						done.Go(func() {
							a.Expect(a.from(here, fmt.Sprintf("/v2/team%d/app/manifests/v1", i), fmt.Sprint(i), fmt.Sprint("secret ", i))).To(Equal(status))
						})
					}
					time.Sleep(500 * time.Millisecond)
					a.mu.Lock()
					asked := a.guesses()
					a.mu.Unlock()
					a.Expect(asked).To(Equal(maxSourceGuesses), "at a time")
					done.Wait()
					a.asked = nil
				}
				answer := err
				a.takes = time.Second
				a.respond = func(_, _, password string) error {
					if password == "" {
						return errUnauthorized
					}
					return answer
				}
				a.Expect(a.from(there, tag, "any", "secret")).To(Equal(503))
				a.asked = nil
				for i := range 30 {
					a.from(there, fmt.Sprintf("/v2/team%d/app/manifests/v1", i), "", "") // Not public.
				}
				a.asked = nil
				pull(503)
				answer = nil
				pull(200)
			})
		})
	}
}

func TestNothingHoldsBackTheGrantsOfAKnownSecret(t *testing.T) {
	for name, spoil := range map[string]func(a *asker){
		"by guesses of the same user": func(a *asker) {
			for i := range 50 {
				a.get(tag, fmt.Sprintf("guess %d", i))
			}
		},
		"by guesses of others": func(a *asker) {
			for i := range 50 {
				a.from(here, tag, fmt.Sprint(i), "guess")
			}
		},
		"by a wrong repository": func(a *asker) {
			a.respond = func(repository, _, password string) error {
				if repository != "team/app" {
					return errForbidden
				}
				return onlyGood(repository, "", password)
			}
			for i := range 2 * maxSourceQuestions {
				a.Expect(a.get(fmt.Sprintf("/v2/typo/app%d/manifests/v1", i), "good")).To(BeElementOf(403, 429))
			}
		},
		"by a permission that the token service refuses": func(a *asker) {
			a.respond = func(repository, _, password string) error {
				if repository != "team/app" {
					return &remote.Error{Reason: remote.Unauthorized, Status: http.StatusForbidden, Login: true}
				}
				return onlyGood(repository, "", password)
			}
			for i := range 2 * maxSourceQuestions {
				a.Expect(a.get(fmt.Sprintf("/v2/typo/app%d/manifests/v1", i), "good")).To(BeElementOf(403, 429))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(a *asker) {
				a.Expect(a.get(tag, "good")).To(Equal(200))
				time.Sleep(6 * time.Minute)
				spoil(a)
				a.Expect(a.get(tag, "good")).To(Equal(200))
			})
		})
	}
}

// asAccount sends a request of the account "larder.a", which may read everything.
func (a *asker) asAccount(address, path string) int {
	return a.from(address, path, "larder.a", "p")
}

func TestOneClientLeavesSlotsToOthers(t *testing.T) {
	const latency, others = 300 * time.Millisecond, 20
	for name, ask := range map[string]func(a *asker, address, path string) int{
		"a known secret": func(a *asker, address, path string) int { return a.from(address, path, "bob", "good bob") },
		"the accounts":   func(a *asker, address, path string) int { return a.asAccount(address, path) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(a *asker) {
				a.takes = latency
				a.respond = func(_, _, password string) error {
					if strings.HasPrefix(password, "good") || password == "own" {
						return nil
					}
					return errUnauthorized
				}
				renew := func(i int) int { return a.from(here, tag, "alice", fmt.Sprint("good ", i)) }
				for i := range others {
					a.Expect(renew(i)).To(Equal(200))
				}
				a.Expect(ask(a, there, tag)).To(Equal(200))
				time.Sleep(6 * time.Minute)

				stop, busy := make(chan struct{}), sync.WaitGroup{}
				for connection := range 500 {
					busy.Go(func() {
						for i := 0; ; i++ {
							select {
							case <-stop:
								return
							default:
								ask(a, fmt.Sprintf("10.0.%d.7:1", connection%10), fmt.Sprintf("/v2/bob/app%d-%d/manifests/v1", connection, i))
							}
						}
					})
				}
				time.Sleep(15 * time.Second)
				began := time.Now()
				var statuses [others]int
				var done sync.WaitGroup
				for i := range others {
					done.Go(func() { statuses[i] = renew(i) })
				}
				done.Wait()
				took := time.Since(began)
				close(stop)
				busy.Wait()
				a.Expect(statuses).To(HaveEach(200))
				a.Expect(took).To(BeNumerically("<=", 2*latency))
				a.Expect(a.gate.shares.Len()).To(BeZero())
			})
		})
	}
}

func TestRefusedQuestionsOfAKnownClientAreLimited(t *testing.T) {
	for name, ask := range map[string]func(a *asker, address, path string) int{
		"a secret":   func(a *asker, address, path string) int { return a.from(address, path, "bob", "known") },
		"an account": func(a *asker, address, path string) int { return a.asAccount(address, path) },
	} {
		for kind, err := range map[string]error{"refused": errForbidden, "missing": errMissing, "hidden": errNotFound, "a page": errPage} {
			t.Run(name+", "+kind, func(t *testing.T) {
				inBubble(t, func(a *asker) {
					a.takes = 200 * time.Millisecond
					a.respond = func(repository, _, password string) error {
						if password == "" {
							return errUnauthorized
						}
						if strings.HasPrefix(repository, "noise/") {
							return err
						}
						return nil
					}
					a.Expect(ask(a, there, tag)).To(Equal(200))
					time.Sleep(4 * time.Minute)
					a.asked = nil
					var done sync.WaitGroup
					for connection := range 50 {
						done.Go(func() {
							for i := range 10 {
								ask(a, there, fmt.Sprintf("/v2/noise/app%d-%d/manifests/v1", connection, i))
							}
						})
					}
					done.Wait()
					asked := slices.DeleteFunc(slices.Clone(a.asked), func(password string) bool { return password == "" })
					a.Expect(asked).To(HaveLen(maxSourceQuestions))

					a.Expect(ask(a, there, "/v2/new/app/manifests/v1")).To(Equal(429))
					a.Expect(ask(a, there, tag)).To(Equal(200), "by its grant")
					a.Expect(ask(a, here, "/v2/new/app/manifests/v1")).To(Equal(200), "from another address")
					a.Expect(a.from(there, "/v2/new/app/manifests/v1", "alice", "good")).To(Equal(200), "another secret")
					time.Sleep(guessWindow)
					a.Expect(ask(a, there, "/v2/newer/app/manifests/v1")).To(Equal(200))
				})
			})
		}
	}
}

func TestKnownSecretIsNotCountedAsRefused(t *testing.T) {
	for name, err := range map[string]error{"in an outage": errSilent, "by its rate limit": errRateLimited} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(a *asker) {
				a.Expect(a.get(tag, "good")).To(Equal(200))
				a.respond = func(_, _, password string) error {
					if password == "" {
						return errUnauthorized
					}
					return err
				}
				for i := range 2 * maxSourceQuestions {
					a.Expect(a.get(fmt.Sprintf("/v2/any/app%d/manifests/v1", i), "good")).To(BeElementOf(429, 503))
				}
				a.respond = onlyGood
				a.Expect(a.get("/v2/new/app/manifests/v1", "good")).To(Equal(200))
			})
		})
	}
}

func TestLimitOfAKnownSecretSaysWhenToTryAgain(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.Expect(a.get(tag, "good")).To(Equal(200))
		a.respond = always(errForbidden)
		for i := range maxSourceQuestions {
			a.Expect(a.get(fmt.Sprintf("/v2/typo/app%d/manifests/v1", i), "good")).To(Equal(403))
		}
		time.Sleep(20 * time.Second)
		r := httptest.NewRequest(http.MethodGet, "/v2/typo/app/manifests/v1", nil)
		r.RemoteAddr = here
		r.SetBasicAuth("alice", "good")
		w := httptest.NewRecorder()
		a.handler.ServeHTTP(w, r)
		a.Expect(w.Code).To(Equal(429))
		a.Expect(w.Header().Get("Retry-After")).To(Equal("40"))
		a.Expect(w.Body.String()).To(ContainSubstring("correct the names of images"))
	})
}

func TestRefusalsAtOneAddressHoldBackNoOther(t *testing.T) {
	t.Run("while the secret is new", func(t *testing.T) {
		inBubble(t, func(a *asker) {
			a.takes = 2 * time.Second
			var done sync.WaitGroup
			for i := range 30 {
				done.Go(func() {
					a.from(there, fmt.Sprintf("/v2/x/app%d/manifests/v1", i), fmt.Sprint(i), fmt.Sprint("wrong ", i))
				})
			}
			time.Sleep(500 * time.Millisecond)
			done.Go(func() { a.from(there, tag, "alice", "good") }) // It waits.
			time.Sleep(300 * time.Millisecond)
			began := time.Now()
			a.Expect(a.get(tag, "good")).To(Equal(200))
			a.Expect(time.Since(began)).To(BeNumerically("<=", 2*a.takes))
			done.Wait()
		})
	})
	t.Run("once it is known", func(t *testing.T) {
		inBubble(t, func(a *asker) {
			a.Expect(a.get(tag, "good")).To(Equal(200))
			a.respond = func(repository, _, password string) error {
				if password == "good" && !strings.HasPrefix(repository, "typo/") {
					return nil
				}
				return errForbidden
			}
			a.Expect(a.from(there, "/v2/typo/app/manifests/v1", "alice", "good")).To(Equal(403))
			a.takes = 100 * time.Millisecond
			var done sync.WaitGroup
			for i := range maxSourceQuestions - 1 {
				done.Go(func() { a.from(there, fmt.Sprintf("/v2/typo/app%d/manifests/v1", i), "alice", "good") })
			}
			time.Sleep(150 * time.Millisecond) // Now they are asked about with the secret.
			done.Go(func() {
				a.Expect(a.from(there, "/v2/team/new/manifests/v1", "alice", "good")).To(Equal(429))
			})
			synctest.Wait()
			a.Expect(a.get("/v2/team/new/manifests/v1", "good")).To(Equal(200))
			done.Wait()
		})
	})
}

func TestNewSecretAtManyAddressesIsAskedWithOnce(t *testing.T) {
	for password, status := range map[string]int{"good": 200, "wrong": 403} {
		t.Run(password, func(t *testing.T) {
			inBubble(t, func(a *asker) {
				a.takes = 300 * time.Millisecond
				var done sync.WaitGroup
				for i := range 60 {
					done.Go(func() { a.Expect(a.from(fmt.Sprintf("10.0.%d.7:1", i), tag, "alice", password)).To(Equal(status)) })
				}
				done.Wait()
				a.Expect(a.asked).To(ConsistOf("", password))
			})
		})
	}
}

func TestRevokedSecretIsAGuessAgain(t *testing.T) {
	inBubble(t, func(a *asker) {
		path := func(i int) string { return fmt.Sprintf("/v2/team/app%d/manifests/v1", i) }
		for i := range 20 {
			a.Expect(a.get(path(i), "good")).To(Equal(200))
		}
		time.Sleep(6 * time.Minute)
		a.asked, a.respond = nil, always(errLogin)
		for i := range 20 {
			a.Expect(a.get(path(i), "good")).To(BeElementOf(403, 429))
		}
		asked := len(slices.DeleteFunc(slices.Clone(a.asked), func(password string) bool { return password == "" }))
		a.Expect(asked).To(Equal(1 + maxCredentialGuesses))
	})
}

func TestRateLimitOfTheLoginHoldsBackUnknownSecretsFromTheAddress(t *testing.T) {
	errLimited := &remote.Error{Reason: remote.RateLimited, Status: http.StatusTooManyRequests, RetryAfter: time.Hour, Login: true}
	prepare := func(a *asker) {
		a.Expect(a.get(tag, "good")).To(Equal(200))
		a.respond = func(repository, path, password string) error {
			if password == "guess" {
				return errLimited
			}
			return onlyGood(repository, path, password)
		}
		a.Expect(a.get(tag, "guess")).To(Equal(429))
	}
	other := func(a *asker) int { return a.from(here, tag, "bob", "other") }
	t.Run("for a minute", func(t *testing.T) {
		inBubble(t, func(a *asker) {
			prepare(a)
			a.Expect(other(a)).To(Equal(429))
			a.Expect(a.asked).NotTo(ContainElement("other"))
			a.Expect(a.from(there, tag, "bob", "elsewhere")).To(Equal(403), "from another address")
			time.Sleep(maxBlocked)
			a.asked = nil
			a.Expect(a.get(tag, "guess")).To(Equal(429))
			a.Expect(a.asked).NotTo(ContainElement("guess"), "another probes first")
			a.Expect(other(a)).To(Equal(403))
			a.Expect(a.get(tag, "guess")).To(Equal(429))
			a.Expect(a.asked).To(ContainElement("guess"), "the probe met no limit")
		})
	})
	t.Run("but no known one", func(t *testing.T) {
		inBubble(t, func(a *asker) {
			prepare(a)
			time.Sleep(6 * time.Minute)
			a.Expect(a.get(tag, "guess")).To(Equal(429))
			a.Expect(a.get(tag, "good")).To(Equal(200))
		})
	})
	t.Run("while it lasts, with one probe a minute", func(t *testing.T) {
		inBubble(t, func(a *asker) {
			prepare(a)
			a.respond = func(_, _, password string) error {
				if password == "" {
					return errUnauthorized
				}
				return errLimited
			}
			time.Sleep(maxBlocked)
			a.asked, a.takes = nil, time.Second
			var done sync.WaitGroup
			for i := range 20 {
				done.Go(func() {
					a.Expect(a.from(here, tag, fmt.Sprint(i), fmt.Sprint("secret ", i))).To(Equal(429))
				})
			}
			done.Wait()
			a.Expect(a.guesses()).To(Equal(1))
		})
	})
}

func TestRateLimitOfOneSecretHoldsBackNoOther(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.respond = func(repository, path, password string) error {
			if password == "limited" {
				return errRateLimited
			}
			return onlyGood(repository, path, password)
		}
		a.Expect(a.get(tag, "limited")).To(Equal(429))
		a.Expect(a.from(there, tag, "bob", "good")).To(Equal(200))
	})
}

func TestSecretCountsWhereThePublicCheckFails(t *testing.T) {
	for name, err := range map[string]error{
		"with a server error":    errStatus(http.StatusInternalServerError),
		"with a redirect":        errStatus(http.StatusFound),
		"with a page":            errPage,
		"because of a limit":     errRateLimited,
		"because it is not said": errUnauthorized,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(a *asker) {
				a.respond = func(repository, path, password string) error {
					if password == "" {
						return err
					}
					return onlyGood(repository, path, password)
				}
				a.Expect(a.get(tag, "")).To(Equal(401))
				a.Expect(a.get(tag, "good")).To(Equal(200))
			})
		})
	}
}

func TestClientsAreAskedForTheirSecretsDuringAnOutage(t *testing.T) {
	const secondTag = "/v2/team/app/manifests/v2"
	inBubble(t, func(a *asker) {
		a.Expect(a.get(tag, "good")).To(Equal(200))
		a.respond, a.takes = always(errSilent), time.Minute
		time.Sleep(time.Hour)
		for _, path := range []string{tag, secondTag, manifest, layer} {
			a.down = false
			a.Expect(a.get(path, "")).To(Equal(401), "when the upstream has not responded")
			a.down = true
			begun := time.Now()
			a.Expect(a.get(path, "")).To(Equal(401))
			a.Expect(time.Since(begun)).To(Equal(2*time.Second), "the client may have a grant")
			a.Expect(a.get(path, "good")).To(Equal(200))
			a.Expect(a.get(path, "other")).To(Equal(503))
		}
	})
}

func TestUpstreamThatCountsAsDownMayStillRespond(t *testing.T) {
	const public, other = "/v2/library/base/manifests/v1", "/v2/library/other/manifests/v1"
	inBubble(t, func(a *asker) {
		a.respond, a.down, a.takes = always(nil), true, time.Second
		a.Expect(a.get(public, "")).To(Equal(200))
		a.takes = 3 * time.Second
		a.gate.accounts = &file[accounts]{value: accounts{"larder.b": {passwords: []password{hashOf("p")}}}}
		a.Expect(a.from(here, "/v2/library/third/manifests/v1", "larder.b", "p")).To(Equal(200), "an account presents no other credential")
		a.asked = nil
		a.Expect(a.get(other, "")).To(Equal(401))
		time.Sleep(time.Second)
		synctest.Wait()
		a.Expect(a.get(other, "")).To(Equal(200))
		a.Expect(a.asked).To(HaveLen(1), "the question has gone on")
		a.Expect(a.probes).To(BeZero(), "a limit could refuse the question that has to follow a probe")
	})
}

func TestQuestionsDuringAnOutageCountOnlyWhileTheyAreAsked(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.respond, a.down, a.takes = always(errSilent), true, 3*time.Second
		for round := range 4 {
			var clients sync.WaitGroup
			for i := range 16 {
				clients.Go(func() {
					a.Expect(a.get(fmt.Sprintf("/v2/library/%d-%d/manifests/v1", round, i), "")).To(Equal(401))
				})
			}
			clients.Wait()
			time.Sleep(time.Second)
		}
		synctest.Wait()
		a.Expect(a.asked).To(HaveLen(64))
		a.respond, a.down = always(nil), false
		a.Expect(a.get("/v2/library/base/manifests/v1", "")).To(Equal(200))
	})
}

func TestUpstreamWithoutAnyResponseIsNotAskedTwice(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.respond = always(errSilent)
		a.Expect(a.get(tag, "good")).To(Equal(503))
		a.Expect(a.asked).To(ConsistOf(""))
	})
}

func TestPublicChecksDoNotHoldUpSecrets(t *testing.T) {
	for name, password := range map[string]string{"of clients without a credential": "", "of clients with a wrong one": "wrong"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(a *asker) {
				a.Expect(a.get(tag, "good")).To(Equal(200))
				a.respond = func(repository, path, password string) error {
					if password == "" && repository != "team/new" {
						time.Sleep(time.Minute)
					}
					return onlyGood(repository, path, password)
				}
				var done sync.WaitGroup
				for i := range 200 {
					done.Go(func() {
						a.from(fmt.Sprintf("10.0.0.%d:1", i), fmt.Sprintf("/v2/any/app%d/manifests/v1", i), fmt.Sprint(i), password)
					})
				}
				synctest.Wait()
				if password == "" {
					done.Go(func() { a.from(there, "/v2/team/new/manifests/v1", "", "") }) // It waits.
					synctest.Wait()
				}
				began := time.Now()
				a.Expect(a.get("/v2/team/new/manifests/v1", "good")).To(Equal(200))
				a.Expect(time.Since(began)).To(BeZero())
				done.Wait()
			})
		})
	}
}

func TestSecretsDoNotWaitForTheLimitOfQuestionsWithoutACredential(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.Expect(a.get(tag, "good")).To(Equal(200))
		for i := range maxSourceQuestions - 2 { // One was asked for the good secret.
			a.Expect(a.get(fmt.Sprintf("/v2/any/app%d/manifests/v1", i), "")).To(Equal(401))
		}
		a.respond = func(repository, path, password string) error {
			if password == "" {
				time.Sleep(time.Second)
			}
			return onlyGood(repository, path, password)
		}
		var done sync.WaitGroup
		done.Go(func() { a.get("/v2/any/last/manifests/v1", "") })
		synctest.Wait()
		began := time.Now()
		a.Expect(a.get("/v2/team/new/manifests/v1", "good")).To(Equal(200))
		a.Expect(time.Since(began)).To(BeZero())
		done.Wait()
	})
}

func TestQuestionsWithoutACredentialAreLimited(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.respond = func(repository, path, password string) error {
			if strings.HasPrefix(repository, "library/") {
				return nil
			}
			return onlyGood(repository, path, password)
		}
		a.Expect(a.get("/v2/library/old/manifests/v1", "")).To(Equal(200))
		time.Sleep(6 * time.Minute)
		a.asked = nil
		var done sync.WaitGroup
		for i := range 400 {
			done.Go(func() { a.Expect(a.get(fmt.Sprintf("/v2/any/app%d/manifests/v1", i), "")).To(Equal(401)) })
		}
		done.Wait()
		a.Expect(a.asked).To(HaveLen(maxSourceQuestions))
		a.Expect(a.get("/v2/library/new/manifests/v1", "")).To(Equal(401))
		a.Expect(a.get("/v2/library/old/manifests/v1", "")).To(Equal(200), "was public before")
		a.Expect(a.from(there, "/v2/library/new/manifests/v1", "", "")).To(Equal(200))
		a.asked = nil
		a.Expect(a.get(tag, "good")).To(Equal(200))
		a.Expect(a.asked).To(ConsistOf("good"))
		for i := range 400 {
			a.Expect(a.from(there, fmt.Sprintf("/v2/library/app%d/manifests/v1", i), "", "")).To(Equal(200), "what is public does not count")
		}
		time.Sleep(guessWindow)
		a.Expect(a.get("/v2/library/app/manifests/v1", "")).To(Equal(200))
	})
}

func TestGuestDoesNotPayAfterItsGrant(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.Expect(a.get(tag, "good")).To(Equal(200))
		time.Sleep(5*time.Minute - time.Second)
		_, ok := a.gate.Guests.For("team/app", nil)
		a.Expect(ok).To(BeTrue())
		time.Sleep(time.Second)
		_, ok = a.gate.Guests.For("team/app", nil)
		a.Expect(ok).To(BeFalse())
	})
}

func TestGrantsForManyBlobsDisplaceNoGrantForARepository(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.Expect(a.get(tag, "good")).To(Equal(200))
		for i := range maxGrants + 100 {
			blob := "/v2/large/app/blobs/" + digest.FromString(fmt.Sprint(i)).String()
			a.Expect(a.from(there, blob, "bob", "good")).To(Equal(200))
		}
		a.respond, a.down = always(errSilent), true
		time.Sleep(6 * time.Minute)
		a.Expect(a.get(tag, "good")).To(Equal(200))
	})
}

func TestMemoryIsBounded(t *testing.T) {
	g, m := NewWithT(t), newMemory()
	now := time.Now()
	for i := range maxGrants + 100 {
		m.allow(key{holder: holder{repository: fmt.Sprint(i % 1000)}, path: fmt.Sprint(i)}, grant{until: now})
		m.allow(key{holder: holder{repository: fmt.Sprint("whole ", i)}}, grant{until: now})
	}
	held := 0
	for _, paths := range m.held {
		held += len(paths)
	}
	g.Expect(m.singles.Len()).To(Equal(maxGrants))
	g.Expect(m.wholes.Len()).To(Equal(maxGrants))
	g.Expect(held).To(Equal(2 * maxGrants))
	m.revoke(holder{repository: "7"})
	g.Expect(m.held).NotTo(HaveKey(holder{repository: "7"}))
	g.Expect(m.held).To(HaveLen(999 + maxGrants))
	m.expire(now.Add(time.Hour), time.Minute)
	g.Expect(m.held).To(BeEmpty())
}

func TestEveryDecisionHasAValueInMetrics(t *testing.T) {
	g := NewWithT(t)
	g.Expect(Results).To(HaveLen(int(byNode) + 1))
	for d := unavailable; d <= byNode; d++ {
		g.Expect(d.passes()).To(Equal(slices.Contains([]string{"public", "granted", "account", "node"}, d.String())), d.String())
	}
}
