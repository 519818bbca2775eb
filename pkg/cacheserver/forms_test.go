// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/test/landscape/upstream"
	"github.com/larder-project/larder/test/secretvolume"
	"github.com/larder-project/larder/test/upstreamsim"
)

// pullAll pulls images concurrently and returns the errors.
func (c *cache) pullAll(images []string, between func(i int)) []error {
	var group sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	for i, image := range images {
		group.Go(func() {
			if _, err := c.pull(image); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, fmt.Errorf("%s: %w", image, err))
			}
		})
		between(i)
	}
	group.Wait()
	return failed
}

// reports returns the reports about all credentials.
func (c *cache) reports(g Gomega) credentials.Reports {
	status, body := c.debug(config.CredentialsPath)
	g.Expect(status).To(Equal(http.StatusOK))
	var r credentials.Reports
	g.Expect(json.Unmarshal([]byte(body), &r)).To(Succeed())
	return r
}

// expectSilent verifies that no secret is in an output or on a page of the cache, as it is or in Base64.
func (c *cache) expectSilent(secrets ...string) {
	GinkgoHelper()
	outputs := map[string]string{"standard error": string(c.Err.Contents()), "standard output": string(c.Out.Contents())}
	for _, page := range []string{config.CredentialsPath, config.StatusPath, "/debug/", "/debug/health", "/debug/vars", "/debug/pprof/cmdline", "/metrics"} {
		_, outputs[page] = c.debug(page)
	}
	for place, output := range outputs {
		for _, secret := range secrets {
			Expect(output).NotTo(ContainSubstring(secret), place)
			Expect(output).NotTo(ContainSubstring(base64.StdEncoding.EncodeToString([]byte(secret))), place)
		}
	}
}

// users returns the users of successful requests for content, by repository.
func (w *world) users() map[string]map[string]bool {
	users := map[string]map[string]bool{}
	for _, request := range w.requests.Requests(content...) {
		if request.Status < http.StatusBadRequest {
			repository := match(request.Path, "^/v2/(.*)/(?:manifests|blobs)/")
			if users[repository] == nil {
				users[repository] = map[string]bool{}
			}
			users[repository][request.User] = true
		}
	}
	return users
}

var _ = Describe("Forms of a credential", func() {
	DescribeTable("are rotated while clients pull",
		func(first, later upstreamsim.Account, form func(upstreamsim.Account) credentials.Credential) {
			w := newWorld()
			v1 := credentials.Named{Name: "robot-v1", Material: credentials.Static(form(first))}
			v2 := credentials.Named{Name: "robot-v2", Material: credentials.Static(form(later))}
			c := w.config(upstream.Private)
			w.writeCredential(v1, nil)
			Expect(upstream.WritePullers(w.pullersFile(), first, later)).To(Succeed())
			cache := w.start(c)
			Eventually(cache.reports).Should(HaveField("Report", HaveValue(And(
				HaveField("SecretName", "robot-v1"), HaveField("State", credentials.StateActive)))))

			var images []string
			for i := range 24 {
				images = append(images, fmt.Sprintf("team/app:v%d", i))
				w.push(upstream.Private, images[i], 16<<10)
			}
			failed := cache.pullAll(images, func(i int) {
				switch i {
				case 8:
					Eventually(w.users).Should(HaveKeyWithValue("team/app", HaveKey(first.Username)))
					w.writeCredential(v2, &v1)
					Eventually(cache.reports).Should(HaveField("Report", HaveValue(And(
						HaveField("SecretName", "robot-v2"), HaveField("PendingSecretName", ""), HaveField("State", credentials.StateActive)))))
				case 16:
					w.writeCredential(v2, nil)
				}
			})
			Expect(failed).To(BeEmpty())
			Expect(w.users()["team/app"]).To(And(HaveKey(first.Username), HaveKey(later.Username)))

			By("keeping v2 while v3 is rejected")
			invalid := later
			invalid.Password, invalid.IdentityToken, invalid.RegistryToken = "mistyped", "mistyped", "mistyped"
			w.writeCredential(credentials.Named{Name: "robot-v3", Material: credentials.Static(form(invalid))}, &v2)
			Eventually(cache.reports).Should(HaveField("Report", HaveValue(And(
				HaveField("SecretName", "robot-v2"), HaveField("PendingSecretName", "robot-v3"),
				HaveField("State", credentials.StateRejected), HaveField("UpstreamStatusCode", http.StatusUnauthorized)))))
			w.push(upstream.Private, "team/app:after", 1024)
			_, err := cache.pull("team/app:after")
			Expect(err).NotTo(HaveOccurred())
			cache.expectSilent("canary", "mistyped")
		},
		Entry("user name and password",
			upstreamsim.Account{Username: "first", Password: "canary: \"#%*"}, upstreamsim.Account{Username: "later", Password: "canary2"},
			func(a upstreamsim.Account) credentials.Credential {
				return credentials.Credential{Username: a.Username, Password: a.Password}
			}),
		Entry("identity token",
			upstreamsim.Account{Username: "first", IdentityToken: "canary+/="}, upstreamsim.Account{Username: "later", IdentityToken: "canary2"},
			func(a upstreamsim.Account) credentials.Credential {
				return credentials.Credential{Username: a.Username, IdentityToken: a.IdentityToken}
			}),
		Entry("registry token",
			upstreamsim.Account{Username: "first", RegistryToken: "canary+/="}, upstreamsim.Account{Username: "later", RegistryToken: "canary2"},
			func(a upstreamsim.Account) credentials.Credential {
				return credentials.Credential{RegistryToken: a.RegistryToken}
			}),
	)

	It("reports a token server that does not support identity tokens", func() {
		w := newWorld()
		c := w.config(upstream.Private)
		w.writeCredential(credentials.Named{Name: "robot-v1", Material: credentials.Static(credentials.Credential{IdentityToken: "x"})}, nil)
		cache := w.start(c)
		Eventually(cache.reports).Should(HaveField("Report", HaveValue(And(
			HaveField("State", credentials.StateRejected), HaveField("UpstreamStatusCode", http.StatusMethodNotAllowed),
			HaveField("Message", ContainSubstring("the token service does not support them, use a user name and a password"))))))
	})
})

var _ = Describe("Credentials for some repositories", func() {
	var (
		w       *world
		cache   *cache
		teamA   = upstreamsim.Account{Username: "robot-a", Password: "a", Repositories: []string{"team-a"}}
		teamB   = upstreamsim.Account{Username: "robot-b", Password: "b", Repositories: []string{"team-b"}}
		laterA  = upstreamsim.Account{Username: "robot-a2", Password: "a2", Repositories: []string{"team-a"}}
		prefixA = credentials.Prefix([]string{"team-a"})
		prefixB = credentials.Prefix([]string{"team-b"})
	)

	write := func(sets ...map[string][]byte) {
		GinkgoHelper()
		all := map[string][]byte{}
		for _, files := range sets {
			maps.Copy(all, files)
		}
		Expect(secretvolume.Write(w.credentials(), all)).To(Succeed())
	}
	filesB := func() map[string][]byte { return credentials.Files(prefixB, named("team-b-v1", teamB), nil) }
	reportOf := func(prefix string) func(Gomega) credentials.Report {
		return func(g Gomega) credentials.Report { return cache.reports(g).Repositories[prefix] }
	}
	start := func(anonymous bool) {
		GinkgoHelper()
		c := w.config(upstream.Private)
		sets := []map[string][]byte{credentials.Files(prefixA, named("team-a-v1", teamA), nil), filesB()}
		if anonymous {
			c.CredentialsDirectory = ""
		} else {
			sets = append(sets, credentials.Files("", named("robot-v1", robot), nil))
		}
		write(sets...)
		for _, team := range []string{"team-a", "team-b"} {
			c.RepositoryCredentials = append(c.RepositoryCredentials, config.RepositoryCredential{
				Directory: w.credentials(), Prefix: credentials.Prefix([]string{team}), Repositories: []string{team},
			})
		}
		cache = w.start(c)
	}

	BeforeEach(func() {
		w = newWorld()
		Expect(upstream.WritePullers(w.pullersFile(), robot, teamA, teamB)).To(Succeed())
	})

	It("fetch each repository, and the default all others", func() {
		start(false)
		for _, repository := range []string{"team-a", "team-a/app", "team-b/app", "team-ab/app"} {
			w.push(upstream.Private, repository+":v1", 1024)
			_, err := cache.pull(repository + ":v1")
			Expect(err).NotTo(HaveOccurred())
			user := map[string]string{"team-a": teamA.Username, "team-a/app": teamA.Username, "team-b/app": teamB.Username, "team-ab/app": robot.Username}[repository]
			Expect(w.users()).To(Equal(map[string]map[string]bool{repository: {user: true}}), repository)
		}
	})

	It("leave other repositories to anonymous pulls, if the upstream allows them", func() {
		registry, err := upstreamsim.Start(upstreamsim.Options{
			Authentication: upstreamsim.Bearer, Accounts: func() []upstreamsim.Account { return []upstreamsim.Account{teamA} },
			PublicTokens: true, Observe: w.requests.Observe,
		})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(registry.Close)
		write(credentials.Files(prefixA, named("team-a-v1", teamA), nil))
		cache = w.start(config.Config{RemoteURL: registry.URL(), TTL: time.Hour, RepositoryCredentials: []config.RepositoryCredential{
			{Directory: w.credentials(), Prefix: prefixA, Repositories: []string{"team-a"}},
		}})
		for i, repository := range []string{"team-a/app", "other/app"} {
			registry.Push(repository, "v1", upstreamsim.RandomImage(uint64(i), 1, 1024))
			_, err := cache.pull(repository + ":v1")
			Expect(err).NotTo(HaveOccurred())
		}
		Expect(w.users()).To(Equal(map[string]map[string]bool{"team-a/app": {teamA.Username: true}, "other/app": {"": true}}))
	})

	It("are not presented for other repositories, which the upstream may refuse", func() {
		start(true)
		w.push(upstream.Private, "team-a/app:v1", 1024)
		_, err := cache.pull("team-a/app:v1")
		Expect(err).NotTo(HaveOccurred())
		w.push(upstream.Private, "other/app:v1", 1024)
		_, err = cache.pull("other/app:v1")
		Expect(err).To(HaveOccurred(), "the upstream refuses anonymous clients")
		for _, request := range w.requests.Requests() {
			Expect(request.User).NotTo(Or(Equal(teamA.Username), Equal(teamB.Username)))
		}
	})

	It("are rotated and reported each by itself, while clients pull", func() {
		start(false)
		Eventually(reportOf(prefixA)).Should(And(HaveField("SecretName", "team-a-v1"), HaveField("State", credentials.StateActive)))
		Eventually(reportOf(prefixB)).Should(And(HaveField("SecretName", "team-b-v1"), HaveField("State", credentials.StateActive)))
		var images []string
		for i := range 12 {
			for _, team := range []string{"team-a", "team-b"} {
				images = append(images, fmt.Sprintf("%s/app:v%d", team, i))
				w.push(upstream.Private, images[len(images)-1], 16<<10)
			}
		}
		Expect(upstream.WritePullers(w.pullersFile(), robot, teamA, laterA, teamB)).To(Succeed())
		defaultFiles := credentials.Files("", named("robot-v1", robot), nil)
		v1, v2 := named("team-a-v1", teamA), named("team-a-v2", laterA)
		failed := cache.pullAll(images, func(i int) {
			switch i {
			case 8:
				Eventually(w.users).Should(HaveKeyWithValue("team-a/app", HaveKey(teamA.Username)))
				write(defaultFiles, filesB(), credentials.Files(prefixA, v2, &v1))
				Eventually(reportOf(prefixA)).Should(And(
					HaveField("SecretName", "team-a-v2"), HaveField("PendingSecretName", ""), HaveField("State", credentials.StateActive)))
			case 16:
				write(defaultFiles, filesB(), credentials.Files(prefixA, v2, nil))
			}
		})
		Expect(failed).To(BeEmpty())
		Expect(w.users()["team-a/app"]).To(HaveKey(laterA.Username))
		Expect(w.users()["team-b/app"]).To(Equal(map[string]bool{teamB.Username: true}))

		By("rejecting the credential of one team only")
		invalid := named("team-b-v2", upstreamsim.Account{Username: teamB.Username, Password: "mistyped"})
		old := named("team-b-v1", teamB)
		write(defaultFiles, credentials.Files(prefixA, v2, nil), credentials.Files(prefixB, invalid, &old))
		Eventually(reportOf(prefixB)).Should(And(
			HaveField("SecretName", "team-b-v1"), HaveField("PendingSecretName", "team-b-v2"), HaveField("State", credentials.StateRejected)))
		Expect(reportOf(prefixA)(NewWithT(GinkgoTB()))).To(HaveField("State", credentials.StateActive))
		Expect(cache.reports(NewWithT(GinkgoTB())).Report).To(HaveValue(HaveField("State", credentials.StateActive)))
		_, metrics := cache.debug("/metrics")
		for scope, rejected := range map[string]string{"": "0", "team-a": "0", "team-b": "1"} {
			Expect(metrics).To(MatchRegexp(`registry_proxy_credentials_rejected\{scope="%s",upstream="[^"]*"\} %s\n`, scope, rejected))
			Expect(metrics).To(MatchRegexp(`registry_proxy_credentials_active_since_seconds\{scope="%s",upstream="[^"]*"\} 1\S+\n`, scope))
		}
		Expect(metrics).To(MatchRegexp(`registry_proxy_credentials_pending_since_seconds\{scope="team-b",upstream="[^"]*"\} 1\S+\n`))
		Expect(metrics).NotTo(ContainSubstring("credentials_expiry_seconds"), "these credentials do not expire")
	})

	It("reject a candidate that may log in, but not pull what the active one may", func() {
		start(false)
		Eventually(reportOf(prefixA)).Should(HaveField("State", credentials.StateActive))
		w.push(upstream.Private, "team-a/app:v1", 1024)
		_, err := cache.pull("team-a/app:v1")
		Expect(err).NotTo(HaveOccurred())
		old := named("team-a-v1", teamA)
		write(credentials.Files("", named("robot-v1", robot), nil), filesB(), credentials.Files(prefixA, named("team-a-v2", teamB), &old))
		Eventually(reportOf(prefixA)).Should(And(
			HaveField("SecretName", "team-a-v1"), HaveField("State", credentials.StateRejected),
			HaveField("Message", ContainSubstring("not for pulling team-a/app"))))
	})
})
