// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/test/landscape/upstream"
	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("credential rotation", func() {
	var (
		w     *world
		cache *cache
		begun time.Time
		first = upstreamsim.Account{Username: "robot$first", Password: "first: \"#%*"}
		later = upstreamsim.Account{Username: "robot$later", Password: "later: \"#%*"}
		v1    = named("robot-v1", first)
		v2    = named("robot-v2", later)
	)

	report := func(g Gomega) credentials.Report {
		status, body := cache.debug("/debug/credentials")
		g.Expect(status).To(Equal(http.StatusOK))
		var r credentials.Report
		g.Expect(json.Unmarshal([]byte(body), &r)).To(Succeed())
		g.Expect(r.Since).To(And(BeTemporally(">=", begun), BeTemporally("<=", time.Now())))
		return r
	}
	metric := func(name string) string {
		GinkgoHelper()
		_, body := cache.debug("/metrics")
		return match(body, `registry_proxy_`+name+`\{scope="",upstream="[^"]*"\} (\S+)`)
	}
	usersOf := func(kinds ...upstreamsim.Kind) map[string]int {
		users := map[string]int{}
		for _, request := range w.requests.Requests(kinds...) {
			if request.Status < http.StatusBadRequest {
				users[request.User]++
			}
		}
		return users
	}
	BeforeEach(func() { begun = time.Now() })

	for _, server := range []string{upstream.Private, upstream.Basic} {
		Describe("with a registry like "+server, func() {
			BeforeEach(func() {
				w = newWorld()
				c := w.config(server)
				w.writeCredential(v1, nil)
				Expect(upstream.WritePullers(w.pullersFile(), first)).To(Succeed())
				cache = w.start(c, "REGISTRY_LOG_LEVEL=debug")
				Eventually(report).Should(And(HaveField("SecretName", "robot-v1"), HaveField("State", credentials.StateActive)))
			})

			AfterEach(func() {
				Expect(cache.ExitCode()).To(Equal(-1), "the process is running")
				_, metrics := cache.debug("/metrics")
				_, state := cache.debug("/debug/credentials")
				cache.stop()
				for _, output := range []string{string(cache.Err.Contents()), string(cache.Out.Contents()), metrics, state} {
					for _, account := range []upstreamsim.Account{first, later} {
						Expect(output).NotTo(ContainSubstring(account.Password))
						Expect(output).NotTo(ContainSubstring(account.Username), "only the names of Secrets are public")
					}
				}
			})

			It("replaces v1 by v2 while clients pull, and stops using v1", func() {
				const pulls = 40
				for i := range pulls {
					w.push(server, fmt.Sprintf("team/app:v%d", i), 16<<10)
				}
				Expect(upstream.WritePullers(w.pullersFile(), first, later)).To(Succeed())
				w.requests.Reset()

				var group sync.WaitGroup
				var mu sync.Mutex
				var failed []error
				for i := range pulls {
					group.Go(func() {
						if _, err := cache.pull(fmt.Sprintf("team/app:v%d", i)); err != nil {
							mu.Lock()
							defer mu.Unlock()
							failed = append(failed, err)
						}
					})
					switch i {
					case pulls / 4:
						Eventually(func() map[string]int { return usersOf(content...) }).Should(HaveKey(first.Username))
						w.writeCredential(v2, &v1)
						Eventually(report).Should(And(
							HaveField("SecretName", "robot-v2"), HaveField("PendingSecretName", ""), HaveField("State", credentials.StateActive)))
						group.Wait() // Requests that began with v1 end with it.
						Expect(upstream.WritePullers(w.pullersFile(), later)).To(Succeed())
					case pulls / 2:
						w.writeCredential(v2, nil)
					}
				}
				group.Wait()
				Expect(failed).To(BeEmpty())
				Expect(usersOf(content...)).To(And(HaveKey(first.Username), HaveKey(later.Username)))
				Expect(metric("credentials_rejected")).To(Equal("0"))

				By("making no further request with v1")
				w.requests.Reset()
				w.push(server, "team/app:after", 1024)
				_, err := cache.pull("team/app:after")
				Expect(err).NotTo(HaveOccurred())
				Expect(usersOf(content...)).To(And(HaveKey(later.Username), Not(HaveKey(first.Username))))
			})

			It("keeps v1 while v2 is rejected, and accepts v3", func() {
				w.push(server, "team/app:v1", 1024)
				_, err := cache.pull("team/app:v1")
				Expect(err).NotTo(HaveOccurred())
				Expect(upstream.WritePullers(w.pullersFile(), first, later)).To(Succeed())
				w.writeCredential(named("robot-v2", upstreamsim.Account{Username: later.Username, Password: "mistyped"}), &v1)
				Eventually(report).Should(And(
					HaveField("SecretName", "robot-v1"), HaveField("PendingSecretName", "robot-v2"),
					HaveField("State", credentials.StateRejected), HaveField("UpstreamStatusCode", http.StatusUnauthorized),
					HaveField("Message", ContainSubstring(w.host(server)))))
				Expect(metric("credentials_rejected")).To(Equal("1"))
				Expect(metric("credentials_active_since_seconds")).NotTo(Equal("0"))
				w.push(server, "team/app:v2", 1024)
				_, err = cache.pull("team/app:v2")
				Expect(err).NotTo(HaveOccurred())

				w.writeCredential(named("robot-v3", later), &v1)
				Eventually(report).Should(And(
					HaveField("SecretName", "robot-v3"), HaveField("PendingSecretName", ""), HaveField("State", credentials.StateActive),
					HaveField("Message", "")))
				Expect(metric("credentials_rejected")).To(Equal("0"))
			})

			It("resumes after a restart", func() {
				w.writeCredential(named("robot-v2", upstreamsim.Account{Username: later.Username, Password: "mistyped"}), &v1)
				cache.stop()
				c := w.config(server)
				w.writeCredential(named("robot-v2", upstreamsim.Account{Username: later.Username, Password: "mistyped"}), &v1)
				cache = w.start(c)
				w.push(server, "team/app:v1", 1024)
				_, err := cache.pull("team/app:v1")
				Expect(err).NotTo(HaveOccurred())
				Eventually(report).Should(And(HaveField("SecretName", "robot-v1"), HaveField("State", credentials.StateRejected)))
			})
		})
	}

	It("reports a rejected only credential, and nothing without credentials", func() {
		w = newWorld()
		c := w.config(upstream.Private)
		w.writeCredential(named("robot-v1", upstreamsim.Account{Username: robot.Username, Password: "mistyped"}), nil)
		cache = w.start(c)
		Eventually(report).Should(And(
			HaveField("SecretName", "robot-v1"), HaveField("State", credentials.StateRejected), HaveField("UpstreamStatusCode", http.StatusUnauthorized)))
		Expect(metric("credentials_active_since_seconds")).To(Equal("0"))
		cache.stop()

		c.CredentialsDirectory = ""
		cache = w.start(c)
		status, _ := cache.debug("/debug/credentials")
		Expect(status).To(Equal(http.StatusNotFound))
	})
})
