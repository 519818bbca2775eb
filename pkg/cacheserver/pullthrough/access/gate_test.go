// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
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
		for i := range maxShare {
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
