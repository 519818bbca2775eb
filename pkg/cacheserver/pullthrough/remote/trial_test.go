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

var _ = Describe("A credential on trial", func() {
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

	It("is accepted when it may log in", func(ctx context.Context) {
		Expect(client.Try(ctx, next, old)).To(Succeed())
		Expect(registry.asked()).To(Equal([]string{"new /v2/"}))
	})

	It("is rejected when it may not", func(ctx context.Context) {
		delete(registry.rights, "new")
		err := client.Try(ctx, next, old)
		Expect(remote.Is(err, remote.Unauthorized)).To(BeTrue())
		Expect(err).To(HaveField("Status", http.StatusUnauthorized))
	})

	It("is judged neither way by an upstream that is ill", func(ctx context.Context) {
		registry.ping = http.StatusBadGateway
		Expect(remote.Is(client.Try(ctx, next, old), remote.Unavailable)).To(BeTrue())
	})

	DescribeTable("where nobody has to log in for a ping", func(ctx context.Context, ping int) {
		registry.ping = ping

		By("saying nothing as long as there is nothing to tell from")
		Expect(remote.Is(client.Try(ctx, next, old), remote.Unasked)).To(BeTrue())
		registry.public = []string{"public/app"}
		Expect(pull(ctx, "public/app")).To(Succeed())
		Expect(remote.Is(client.Try(ctx, next, old), remote.Unasked)).To(BeTrue(), "anybody may pull that")
		Expect(remote.Is(client.Try(ctx, old, old), remote.Unasked)).To(BeTrue())

		By("asking for what was delivered")
		Expect(pull(ctx, "team/app")).To(Succeed())
		Expect(client.Try(ctx, next, old)).To(Succeed())
		Expect(client.Try(ctx, old, old)).To(Succeed())
		right := registry.grant("new")
		err := client.Try(ctx, next, old)
		Expect(remote.Is(err, remote.Unauthorized)).To(BeTrue())
		Expect(err).To(HaveField("Status", http.StatusUnauthorized))

		By("noticing that the one in use is no longer good")
		registry.grant("new", right...)
		registry.grant("old")
		Expect(remote.Is(client.Try(ctx, old, old), remote.Unauthorized)).To(BeTrue())
		Expect(client.Try(ctx, next, old)).To(Succeed())
	},
		Entry("because it is answered to everybody", http.StatusOK),
		Entry("because it is unknown", http.StatusNotFound),
	)

	It("is judged by what was refused where nobody has to log in for a ping", func(ctx context.Context) {
		registry.ping = http.StatusOK
		right := registry.grant("old")
		Expect(pull(ctx, "team/app")).NotTo(Succeed())
		err := client.Try(ctx, old, old)
		Expect(remote.Is(err, remote.Unauthorized)).To(BeTrue())
		Expect(err).To(HaveField("Status", http.StatusUnauthorized))
		Expect(client.Try(ctx, next, old)).To(Succeed())
		registry.grant("new")
		Expect(remote.Is(client.Try(ctx, next, old), remote.Unauthorized)).To(BeTrue())

		By("until it is delivered again")
		registry.grant("old", right...)
		Expect(pull(ctx, "team/app")).To(Succeed())
		Expect(client.Try(ctx, old, old)).To(Succeed())
	})

	It("is not held responsible for a repository that nobody may pull", func(ctx context.Context) {
		Expect(pull(ctx, "team/mistyped")).NotTo(Succeed())
		Expect(client.Try(ctx, old, old)).To(Succeed())
		registry.ping = http.StatusOK
		Expect(remote.Is(client.Try(ctx, old, old), remote.Unasked)).To(BeTrue())
		Expect(pull(ctx, "team/app")).To(Succeed())
		Expect(client.Try(ctx, old, old)).To(Succeed())
		Expect(client.Try(ctx, next, old)).To(Succeed())
	})

	It("is rejected when it may log in, but not pull what the old one may", func(ctx context.Context) {
		Expect(pull(ctx, "team/app")).To(Succeed())
		Expect(pull(ctx, "team/tool")).To(Succeed())
		registry.rights["new"] = []string{"team/app"}
		err := client.Try(ctx, next, old)
		Expect(remote.Is(err, remote.Unauthorized)).To(BeTrue())
		Expect(err).To(MatchError(ContainSubstring("not pull from team/tool")))
	})

	It("is not held responsible for what the old one may not pull any more either", func(ctx context.Context) {
		Expect(pull(ctx, "team/tool")).To(Succeed())
		registry.rights["old"], registry.rights["new"] = nil, []string{"team/app"}
		Expect(client.Try(ctx, next, old)).To(Succeed())
	})

	It("is not tried with more than a few repositories", func(ctx context.Context) {
		for i := range 50 {
			repository := "team/" + strings.Repeat("x", i+1)
			registry.rights["old"] = append(registry.rights["old"], repository)
			registry.rights["new"] = append(registry.rights["new"], repository)
			Expect(pull(ctx, repository)).To(Succeed())
		}
		before := len(registry.asked())
		Expect(client.Try(ctx, next, old)).To(Succeed())
		Expect(len(registry.asked()) - before).To(BeNumerically("<=", 9))
	})

	It("makes the client forget the old one", func(ctx context.Context) {
		Expect(pull(ctx, "team/app")).To(Succeed())
		client.Retain(next)
		secrets.set("new")
		// If the old one were remembered, it would be used where the new one does not get on.
		registry.rights["new"] = []string{"team/app"}
		before := len(registry.asked())
		Expect(pull(ctx, "team/app")).To(Succeed())
		Expect(remote.Is(pull(ctx, "team/tool"), remote.Unauthorized)).To(BeTrue())
		Expect(registry.asked()[before:]).NotTo(ContainElement(HavePrefix("old ")))
	})

	It("calls for attention when it is refused", func(ctx context.Context) {
		calls := 0
		var err error
		server := httptest.NewServer(registry)
		DeferCleanup(server.Close)
		client, err = remote.New(remote.Options{
			URL: server.URL, Observer: newObserver(), Credentials: secrets, Refused: func() { calls++ },
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

// fakeRegistry wants a password, and knows what whom it belongs to may pull.
type fakeRegistry struct {
	// ping is the answer to a ping of whoever has not said who they are.
	ping int
	// public repositories are for everybody.
	public []string
	// rights are repositories by password.
	rights map[string][]string

	mu       sync.Mutex
	requests []string
}

func (f *fakeRegistry) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// grant replaces the rights of a password, and returns what they were. A password without any is wrong.
func (f *fakeRegistry) grant(password string, repositories ...string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.rights[password]
	if delete(f.rights, password); len(repositories) > 0 {
		f.rights[password] = repositories
	}
	return before
}

// ServeHTTP notes who asked for what.
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
