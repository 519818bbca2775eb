// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/keyring"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/credentials"
)

var _ = Describe("Check", func() {
	var (
		registry *fakeRegistry
		client   *remote.Client
		secrets  *credentialsFor
		old      = keyring.NewSet("v1", credentials.Credential{Username: "robot", Password: "old"})
		next     = keyring.NewSet("v2", credentials.Credential{Username: "robot", Password: "new"})
	)

	pull := func(ctx context.Context, repository string) error {
		_, err := client.FetchManifest(ctx, repository, "v1")
		return err
	}

	BeforeEach(func() {
		registry = &fakeRegistry{ping: http.StatusUnauthorized, rights: map[string][]string{
			"old": {"team/app", "team/tool"}, "new": {"team/app", "team/tool"},
		}}
		server := httptest.NewServer(registry)
		DeferCleanup(server.Close)
		secrets = &credentialsFor{}
		secrets.set("old")
		var err error
		client, err = remote.New(remote.Options{
			URL: server.URL, Observer: newObserver(), Credentials: secrets,
			Timeouts: remote.Timeouts{Connect: time.Minute, FirstByte: time.Minute, Idle: time.Minute},
		})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(client.Close)
	})

	It("accepts a credential that may log in", func(ctx context.Context) {
		Expect(client.Check(ctx, next, old)).To(Succeed())
		Expect(registry.recorded()).To(Equal([]string{"new /v2/"}))
	})

	It("rejects a credential that may not log in", func(ctx context.Context) {
		delete(registry.rights, "new")
		err := client.Check(ctx, next, old)
		Expect(remote.Is(err, remote.Unauthorized)).To(BeTrue())
		Expect(err).To(HaveField("Status", http.StatusUnauthorized))
	})

	It("has no result if the upstream fails", func(ctx context.Context) {
		registry.ping = http.StatusBadGateway
		Expect(remote.Is(client.Check(ctx, next, old), remote.Unavailable)).To(BeTrue())
	})

	DescribeTable("repeats recent pulls if the upstream does not ask for a login on a ping", func(ctx context.Context, ping int) {
		registry.ping = ping

		By("having no result without a pull that needs a credential")
		Expect(remote.Is(client.Check(ctx, next, old), remote.NotChallenged)).To(BeTrue())
		registry.public = []string{"public/app"}
		Expect(pull(ctx, "public/app")).To(Succeed())
		Expect(remote.Is(client.Check(ctx, next, old), remote.NotChallenged)).To(BeTrue(), "the repository is public")
		Expect(remote.Is(client.Check(ctx, old, old), remote.NotChallenged)).To(BeTrue())

		By("repeating a pull that succeeded")
		Expect(pull(ctx, "team/app")).To(Succeed())
		Expect(client.Check(ctx, next, old)).To(Succeed())
		Expect(client.Check(ctx, old, old)).To(Succeed())
		right := registry.grant("new")
		err := client.Check(ctx, next, old)
		Expect(remote.Is(err, remote.Unauthorized)).To(BeTrue())
		Expect(err).To(HaveField("Status", http.StatusUnauthorized))

		By("rejecting the active credential")
		registry.grant("new", right...)
		registry.grant("old")
		Expect(remote.Is(client.Check(ctx, old, old), remote.Unauthorized)).To(BeTrue())
		Expect(client.Check(ctx, next, old)).To(Succeed())
	},
		Entry("because it responds to anonymous pings", http.StatusOK),
		Entry("because it does not know the path", http.StatusNotFound),
	)

	It("repeats rejected pulls if the upstream does not ask for a login on a ping", func(ctx context.Context) {
		registry.ping = http.StatusOK
		right := registry.grant("old")
		Expect(pull(ctx, "team/app")).NotTo(Succeed())
		err := client.Check(ctx, old, old)
		Expect(remote.Is(err, remote.Unauthorized)).To(BeTrue())
		Expect(err).To(HaveField("Status", http.StatusUnauthorized))
		Expect(client.Check(ctx, next, old)).To(Succeed())
		registry.grant("new")
		Expect(remote.Is(client.Check(ctx, next, old), remote.Unauthorized)).To(BeTrue())

		By("forgetting them once the pull succeeds")
		registry.grant("old", right...)
		Expect(pull(ctx, "team/app")).To(Succeed())
		Expect(client.Check(ctx, old, old)).To(Succeed())
	})

	DescribeTable("without a credential, since none could be issued,",
		func(ctx context.Context, temporary bool, reason remote.Reason, cause string, rejections int) {
			calls := 0
			client, err := remote.New(remote.Options{
				URL: "http://registry.example.com", Observer: newObserver(), Credentials: notIssuedError{temporary}, Rejected: func(string) { calls++ },
				Timeouts: remote.Timeouts{Connect: time.Minute, FirstByte: time.Minute, Idle: time.Minute},
			})
			Expect(err).NotTo(HaveOccurred())
			DeferCleanup(client.Close)
			_, err = client.Resolve(ctx, "team/app", "v1")
			Expect(remote.Is(err, reason)).To(BeTrue(), "%v", err)
			Expect(err).To(MatchError(And(ContainSubstring(cause), Not(ContainSubstring(password)))))
			Expect(calls).To(Equal(rejections))
		},
		Entry("is unavailable while its service may be down", true, remote.Unavailable, "no credential could be issued", 0),
		Entry("is unauthorized if the service rejects the material", false, remote.Unauthorized, "cannot read the credential", 1),
	)

	It("does not reject a credential because of a repository that no credential may pull", func(ctx context.Context) {
		Expect(pull(ctx, "team/mistyped")).NotTo(Succeed())
		Expect(client.Check(ctx, old, old)).To(Succeed())
		registry.ping = http.StatusOK
		Expect(remote.Is(client.Check(ctx, old, old), remote.NotChallenged)).To(BeTrue())
		Expect(pull(ctx, "team/app")).To(Succeed())
		Expect(client.Check(ctx, old, old)).To(Succeed())
		Expect(client.Check(ctx, next, old)).To(Succeed())
	})

	It("rejects a credential that may log in, but not pull what the active one may", func(ctx context.Context) {
		Expect(pull(ctx, "team/app")).To(Succeed())
		Expect(pull(ctx, "team/tool")).To(Succeed())
		registry.rights["new"] = []string{"team/app"}
		err := client.Check(ctx, next, old)
		Expect(remote.Is(err, remote.Unauthorized)).To(BeTrue())
		Expect(err).To(MatchError(ContainSubstring("not for pulling team/tool")))
	})

	It("does not reject a credential because of a repository that the active one may no longer pull", func(ctx context.Context) {
		Expect(pull(ctx, "team/tool")).To(Succeed())
		registry.rights["old"], registry.rights["new"] = nil, []string{"team/app"}
		Expect(client.Check(ctx, next, old)).To(Succeed())
	})

	It("repeats the pulls of few repositories", func(ctx context.Context) {
		for i := range 50 {
			repository := "team/" + strings.Repeat("x", i+1)
			registry.rights["old"] = append(registry.rights["old"], repository)
			registry.rights["new"] = append(registry.rights["new"], repository)
			Expect(pull(ctx, repository)).To(Succeed())
		}
		before := len(registry.recorded())
		Expect(client.Check(ctx, next, old)).To(Succeed())
		Expect(len(registry.recorded()) - before).To(BeNumerically("<=", 9))
	})

	It("is followed by Retain, which forgets the active credential", func(ctx context.Context) {
		Expect(pull(ctx, "team/app")).To(Succeed())
		client.Retain(next)
		secrets.set("new")
		registry.rights["new"] = []string{"team/app"}
		before := len(registry.recorded())
		Expect(pull(ctx, "team/app")).To(Succeed())
		Expect(remote.Is(pull(ctx, "team/tool"), remote.Unauthorized)).To(BeTrue())
		Expect(registry.recorded()[before:]).NotTo(ContainElement(HavePrefix("old ")))
	})

	It("is requested when a pull is rejected", func(ctx context.Context) {
		calls := 0
		var err error
		server := httptest.NewServer(registry)
		DeferCleanup(server.Close)
		client, err = remote.New(remote.Options{
			URL: server.URL, Observer: newObserver(), Credentials: secrets, Rejected: func(string) { calls++ },
			Timeouts: remote.Timeouts{Connect: time.Minute, FirstByte: time.Minute, Idle: time.Minute},
		})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(client.Close)
		Expect(pull(ctx, "team/app")).To(Succeed())
		Expect(calls).To(BeZero())
		delete(registry.rights, "old")
		Expect(pull(ctx, "team/app")).NotTo(Succeed())
		Expect(calls).To(Equal(1))
	})
})

// fakeRegistry asks for a password, which decides on the repositories that may be pulled.
type fakeRegistry struct {
	// ping is the status of an anonymous ping.
	ping int
	// public repositories need no password.
	public []string
	// rights are repositories by password.
	rights map[string][]string

	mu       sync.Mutex
	requests []string
}

func (f *fakeRegistry) recorded() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// grant replaces the rights of a password, and returns the ones before. A password without rights is wrong.
func (f *fakeRegistry) grant(password string, repositories ...string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.rights[password]
	if delete(f.rights, password); len(repositories) > 0 {
		f.rights[password] = repositories
	}
	return before
}

// ServeHTTP records the password and path of each request.
func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	repository, _, ofRepository := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/")
	_, password, ok := r.BasicAuth()
	switch {
	case ok:
	case ofRepository && slices.Contains(f.public, repository):
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		_, _ = w.Write([]byte(`{}`))
		return
	case r.URL.Path == "/v2/":
		if f.ping == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Basic realm="fake"`)
		}
		w.WriteHeader(f.ping)
		return
	default:
		w.Header().Set("WWW-Authenticate", `Basic realm="fake"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	f.mu.Lock()
	f.requests = append(f.requests, password+" "+r.URL.Path)
	rights, known := f.rights[password]
	f.mu.Unlock()
	switch {
	case !known:
		w.WriteHeader(http.StatusUnauthorized)
	case ofRepository && !slices.Contains(rights, repository):
		w.WriteHeader(http.StatusForbidden)
	case ofRepository:
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		_, _ = w.Write([]byte(`{}`))
	}
}
