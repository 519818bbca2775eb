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
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

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

func TestFewGuessesAreAskedAtATime(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.takes = time.Second
		a.guessFrom(maxGuesses, 1, func(address, _ int) string { return fmt.Sprint(address) })
		a.Expect(a.guesses()).To(Equal(maxGuesses))
		a.Expect(a.mostAsking).To(Equal(maxAsking))
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
