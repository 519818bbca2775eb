// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring_test

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/sirupsen/logrus"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/keyring"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

var _ = Describe("Router", func() {
	newKeyring := func(username string) *keyring.Keyring {
		log := logrus.New()
		log.SetOutput(GinkgoWriter)
		source := keyring.Static{}
		if username != "" {
			source = keyring.Static{Username: username, Password: "x"}
		}
		return keyring.New(keyring.Options{Source: source, Clock: clocktesting.NewFakeClock(time.Now()), Log: log})
	}

	DescribeTable("hands out the credential with the longest prefix, by path segments",
		func(ctx context.Context, repository, scope, username string) {
			router := keyring.NewRouter(newKeyring("default"), []keyring.Route{
				{Keyring: newKeyring("a"), Repositories: []string{"team-a", "shared/a"}},
				{Keyring: newKeyring("app"), Repositories: []string{"team-a/app"}},
			})
			gotScope, c, err := router.For(ctx, repository)
			Expect(err).NotTo(HaveOccurred())
			Expect(gotScope).To(Equal(scope))
			Expect(c.Username).To(Equal(username))
		},
		Entry("none", "", "", "default"),
		Entry("the prefix itself", "team-a", "team-a", "a"),
		Entry("below the prefix", "team-a/tool/x", "team-a", "a"),
		Entry("a longer prefix", "team-a/app", "team-a/app", "app"),
		Entry("below a longer prefix", "team-a/app/x", "team-a/app", "app"),
		Entry("a segment that begins like the prefix", "team-ab", "", "default"),
		Entry("a segment that begins like the longer prefix", "team-a/app2", "team-a", "a"),
		Entry("another prefix of the same credential", "shared/a/x", "team-a", "a"),
		Entry("above a prefix", "shared", "", "default"),
	)

	It("is anonymous for all other repositories without a default", func(ctx context.Context) {
		router := keyring.NewRouter(newKeyring(""), []keyring.Route{{Keyring: newKeyring("a"), Repositories: []string{"team-a"}}})
		_, c, err := router.For(ctx, "team-b")
		Expect(err).NotTo(HaveOccurred())
		Expect(c).To(BeZero())
	})

	It("has each keyring checked with its own repositories", func() {
		def, a := newKeyring("default"), newKeyring("a")
		keyring.NewRouter(def, []keyring.Route{{Keyring: a, Repositories: []string{"team-a"}}})
		checks := make(chan checked, 2)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		for _, k := range []*keyring.Keyring{def, a} {
			go k.Run(ctx, checkRecorder(checks))
		}
		served := map[string][2]bool{}
		for range 2 {
			var c checked
			Eventually(checks).Should(Receive(&c))
			served[c.username] = c.serves
		}
		Expect(served).To(Equal(map[string][2]bool{"default": {false, true}, "a": {true, false}}))
	})
})

// checked is a check of a credential, and whether its set serves team-a/app and team-b/app.
type checked struct {
	username string
	serves   [2]bool
}

type checkRecorder chan<- checked

func (c checkRecorder) Check(_ context.Context, candidate, _ remote.CredentialSet) error {
	c <- checked{candidate.All()[0].Username, [2]bool{candidate.Serves("team-a/app"), candidate.Serves("team-b/app")}}
	return nil
}

func (checkRecorder) Retain(remote.CredentialSet) {}
