// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/keyring"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/credentials"
)

var _ = Describe("Exec", func() {
	const (
		output  = `echo '{"ServerURL":"s","Username":"robot","Secret":"from-a-helper"}'`
		timeout = time.Minute
	)
	var (
		dir    string
		log    *logrus.Logger
		logged *gbytes.Buffer
	)

	BeforeEach(func() {
		dir = GinkgoT().TempDir()
		log, logged = logrus.New(), gbytes.NewBuffer()
		log.SetOutput(logged)
	})
	helper := func(script string, lifetime *time.Duration) *keyring.Exec {
		GinkgoHelper()
		command := filepath.Join(dir, "helper")
		Expect(os.WriteFile(command, []byte("#!/bin/sh\n"+script+"\n"), 0o700)).To(Succeed())
		return &keyring.Exec{Command: command, Host: "registry.example.com", Lifetime: lifetime, Timeout: timeout, Log: log}
	}

	DescribeTable("runs the helper", func(ctx context.Context, lifetime *time.Duration, runs int) {
		counter := filepath.Join(dir, "counter")
		e := helper("echo >> "+counter+"\n"+output, lifetime)
		for range 2 {
			_, c, err := e.For(ctx, "a")
			Expect(err).NotTo(HaveOccurred())
			Expect(c.Username).To(Equal("robot"))
			Expect(c.Password).To(Equal("from-a-helper"))
		}
		Expect(os.ReadFile(counter)).To(HaveLen(runs))
	},
		Entry("once without a lifetime", nil, 1),
		Entry("once in a lifetime", new(time.Hour), 1),
		Entry("for each request if the lifetime is zero", new(time.Duration(0)), 2),
	)

	// changing returns a helper that prints the password that was set last, and the number of its runs.
	changing := func(lifetime *time.Duration) (e *keyring.Exec, set func(password string), runs func() int) {
		counter, secret := filepath.Join(dir, "counter"), filepath.Join(dir, "secret")
		e = helper("echo >> "+counter+`; echo "{\"Username\":\"robot\",\"Secret\":\"$(cat `+secret+`)\"}"`, lifetime)
		set = func(password string) {
			GinkgoHelper()
			Expect(os.WriteFile(secret, []byte(password), 0o600)).To(Succeed())
		}
		runs = func() int {
			GinkgoHelper()
			content, err := os.ReadFile(counter)
			Expect(err).NotTo(HaveOccurred())
			return len(content)
		}
		return e, set, runs
	}
	active := func(ctx context.Context, e *keyring.Exec) credentials.Credential {
		GinkgoHelper()
		_, c, err := e.For(ctx, "a")
		Expect(err).NotTo(HaveOccurred())
		return c
	}

	It("runs the helper again, once, for a rejected credential", func(ctx context.Context) {
		e, set, runs := changing(nil)
		set("first")
		first := active(ctx, e)
		e.Accepted(first, nil)
		set("second")
		for range 2 { // The second request started before the first was renewed.
			second, ok := e.Renew(ctx, []credentials.Credential{first})
			Expect(ok).To(BeTrue())
			Expect(second.Password).To(Equal("second"))
			e.Accepted(second, []credentials.Credential{first})
			_, ok = e.Renew(ctx, []credentials.Credential{second})
			Expect(ok).To(BeFalse())
		}
		Expect(runs()).To(Equal(2))
		Expect(active(ctx, e).Password).To(Equal("second"))
	})

	It("keeps a rejected credential if the helper has no other", func(ctx context.Context) {
		broken := filepath.Join(dir, "broken")
		e := helper("if [ -e "+broken+" ]; then exit 1; fi\n"+output, nil)
		c := active(ctx, e)
		Expect(os.WriteFile(broken, nil, 0o600)).To(Succeed())
		_, ok := e.Renew(ctx, []credentials.Credential{c})
		Expect(ok).To(BeFalse())
		Expect(active(ctx, e)).To(Equal(c), "it may be valid for another repository")
	})

	It("falls back on the previous credential while the upstream rejects the new one", func(ctx context.Context) {
		e, set, _ := changing(new(time.Duration(0)))
		set("first")
		first := active(ctx, e)
		e.Accepted(first, nil)

		By("trying the new one first")
		set("wrong")
		wrong := active(ctx, e)
		Expect(wrong.Password).To(Equal("wrong"))
		other, ok := e.Renew(ctx, []credentials.Credential{wrong})
		Expect(ok).To(BeTrue())
		Expect(other).To(Equal(first))

		By("not trying it again while the previous one works")
		e.Accepted(first, []credentials.Credential{wrong})
		Expect(active(ctx, e)).To(Equal(first))
		other, ok = e.Renew(ctx, []credentials.Credential{first})
		Expect(ok).To(BeTrue())
		Expect(other).To(Equal(wrong), "the previous one may have ended")

		By("trying the next one at once")
		set("second")
		second := active(ctx, e)
		Expect(second.Password).To(Equal("second"))
		other, _ = e.Renew(ctx, []credentials.Credential{second})
		Expect(other).To(Equal(first), "a rejected credential is not one to fall back on")

		By("forgetting the previous one once the upstream accepts the next")
		e.Accepted(second, nil)
		_, ok = e.Renew(ctx, []credentials.Credential{second})
		Expect(ok).To(BeFalse())
	})

	It("loses no pull to a wrong credential", func(ctx context.Context) {
		var mu sync.Mutex
		valid, passwords := "first", []string(nil)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			_, password, ok := r.BasicAuth()
			if ok {
				passwords = append(passwords, password)
			}
			if password != valid {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_, _ = w.Write([]byte("{}"))
		}))
		DeferCleanup(server.Close)
		e, set, _ := changing(new(time.Duration(0)))
		client, err := remote.New(remote.Options{URL: server.URL, Credentials: e, Observer: observer{}, Timeouts: remote.DefaultTimeouts})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(client.Close)
		pull := func(expected ...string) {
			GinkgoHelper()
			_, err := client.FetchManifest(ctx, "app", "v1")
			Expect(err).NotTo(HaveOccurred())
			mu.Lock()
			defer mu.Unlock()
			Expect(passwords).To(Equal(expected))
			passwords = nil
		}

		set("first")
		pull("first")
		set("wrong")
		pull("wrong", "first")
		pull("first")

		mu.Lock()
		valid = "second"
		mu.Unlock()
		set("second")
		pull("second")
	})

	It("does not use a credential after its lifetime if the helper fails", func(ctx context.Context) {
		broken := filepath.Join(dir, "broken")
		e := helper("if [ -e "+broken+" ]; then echo from-a-helper; exit 1; fi\n"+output, new(time.Duration(0)))
		_, _, err := e.For(ctx, "a")
		Expect(err).NotTo(HaveOccurred())
		Expect(os.WriteFile(broken, nil, 0o600)).To(Succeed())
		_, c, err := e.For(ctx, "a")
		Expect(err).To(MatchError(HavePrefix("credential helper returned no credential; to see why, run: echo registry.example.com | " + e.Command + " get")))
		Expect(err).NotTo(MatchError(ContainSubstring("from-a-helper")), "its output may be a secret")
		Expect(c).To(BeZero())
		Expect(logged).To(gbytes.Say("returned no credential"))
		Expect(os.Remove(broken)).To(Succeed())
		_, _, err = e.For(ctx, "a")
		Expect(err).NotTo(HaveOccurred())
	})

	It("does not show the standard error of the helper", func(ctx context.Context) {
		shown, err := os.Create(filepath.Join(dir, "shown"))
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(stderr *os.File) { os.Stderr = stderr }, os.Stderr)
		os.Stderr = shown
		_, _, err = helper("echo from-a-helper >&2; exit 1", nil).For(ctx, "a")
		Expect(err).To(HaveOccurred())
		Expect(os.ReadFile(shown.Name())).To(BeEmpty())
		Expect(logged.Contents()).NotTo(ContainSubstring("from-a-helper"))
	})

	It("does not wait for a helper that hangs", func(ctx context.Context) {
		e := helper("sleep 600", nil)
		e.Timeout = 100 * time.Millisecond
		_, _, err := e.For(ctx, "a")
		Expect(err).To(MatchError("credential helper timed out"))
	}, SpecTimeout(2*time.Minute))

	It("kills a helper with its children when the request is cancelled", func(ctx context.Context) {
		running := filepath.Join(dir, "running")
		Expect(unix.Mkfifo(running, 0o600)).To(Succeed())
		e := helper("(echo; sleep 600) > "+running, nil)
		gone := errors.New("gone")
		asking, leave := context.WithCancelCause(ctx)
		failed := make(chan error, 1)
		go func() {
			_, _, err := e.For(asking, "a")
			failed <- err
		}()
		file, err := os.Open(running)
		Expect(err).NotTo(HaveOccurred())
		defer file.Close()
		_, err = file.Read(make([]byte, 1))
		Expect(err).NotTo(HaveOccurred())
		leave(gone)
		Expect(<-failed).To(MatchError(gone))
		Expect(io.ReadAll(file)).To(BeEmpty(), "the pipe closes with its last writer")
		Expect(logged.Contents()).To(BeEmpty())
	}, SpecTimeout(2*time.Minute))

	It("bounds the output of the helper", func(ctx context.Context) {
		_, _, err := helper("exec yes", nil).For(ctx, "a")
		Expect(err).To(MatchError(ContainSubstring("returned no credential")))
	}, SpecTimeout(2*time.Minute))

	It("requires an existing helper, and a complete credential", func(ctx context.Context) {
		missing := helper(output, nil)
		missing.Command += "-missing"
		_, _, err := missing.For(ctx, "a")
		Expect(err).To(HaveOccurred())
		_, _, err = helper(`echo '{"Username":"robot"}'`, nil).For(ctx, "a")
		Expect(err).To(MatchError(ContainSubstring("needs a user name and a password")))
	})
})

// observer ignores its calls.
type observer struct{}

func (observer) Request(string, int, time.Duration) {}
func (observer) Health(bool)                        {}
func (observer) Budget(string, int64, int64)        {}
func (observer) BudgetExpired(string)               {}
