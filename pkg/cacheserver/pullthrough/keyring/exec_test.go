// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/keyring"
)

var _ = Describe("Exec", func() {
	const (
		answer  = `echo '{"ServerURL":"s","Username":"robot","Secret":"from-a-command"}'`
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

	DescribeTable("asks as often as it should", func(ctx context.Context, lifetime *time.Duration, runs int) {
		counter := filepath.Join(dir, "counter")
		e := helper("echo >> "+counter+"\n"+answer, lifetime)
		for range 2 {
			_, c, err := e.For(ctx, "a")
			Expect(err).NotTo(HaveOccurred())
			Expect(c.Username).To(Equal("robot"))
			Expect(c.Password).To(Equal("from-a-command"))
		}
		Expect(os.ReadFile(counter)).To(HaveLen(runs))
	},
		Entry("once without a lifetime", nil, 1),
		Entry("once in a lifetime", new(time.Hour), 1),
		Entry("each time if it is zero", new(time.Duration(0)), 2),
	)

	It("asks again, once, for what the upstream refuses", func(ctx context.Context) {
		counter, secret := filepath.Join(dir, "counter"), filepath.Join(dir, "secret")
		e := helper("echo >> "+counter+`; echo "{\"Username\":\"robot\",\"Secret\":\"$(cat `+secret+`)\"}"`, nil)
		Expect(os.WriteFile(secret, []byte("first"), 0o600)).To(Succeed())
		_, first, err := e.For(ctx, "a")
		Expect(err).NotTo(HaveOccurred())
		Expect(os.WriteFile(secret, []byte("second"), 0o600)).To(Succeed())
		for range 2 { // The other one was refused before it knew.
			second, ok := e.Renew(ctx, first)
			Expect(ok).To(BeTrue())
			Expect(second.Password).To(Equal("second"))
			_, ok = e.Renew(ctx, second)
			Expect(ok).To(BeFalse())
		}
		Expect(os.ReadFile(counter)).To(HaveLen(2))
		_, last, err := e.For(ctx, "a")
		Expect(err).NotTo(HaveOccurred())
		Expect(last.Password).To(Equal("second"))
	})

	It("keeps what the upstream refuses if there is nothing else", func(ctx context.Context) {
		broken := filepath.Join(dir, "broken")
		e := helper("if [ -e "+broken+" ]; then exit 1; fi\n"+answer, nil)
		_, c, err := e.For(ctx, "a")
		Expect(err).NotTo(HaveOccurred())
		Expect(os.WriteFile(broken, nil, 0o600)).To(Succeed())
		_, ok := e.Renew(ctx, c)
		Expect(ok).To(BeFalse())
		_, last, err := e.For(ctx, "a")
		Expect(err).NotTo(HaveOccurred(), "it may be good for another repository")
		Expect(last).To(Equal(c))
	})

	It("uses no credential whose lifetime is over when there is no other", func(ctx context.Context) {
		broken := filepath.Join(dir, "broken")
		e := helper("if [ -e "+broken+" ]; then echo from-a-command; exit 1; fi\n"+answer, new(time.Duration(0)))
		_, _, err := e.For(ctx, "a")
		Expect(err).NotTo(HaveOccurred())
		Expect(os.WriteFile(broken, nil, 0o600)).To(Succeed())
		_, c, err := e.For(ctx, "a")
		Expect(err).To(MatchError(HavePrefix("the credential command gave no credential; to see why, run: echo registry.example.com | " + e.Command + " get")))
		Expect(err).NotTo(MatchError(ContainSubstring("from-a-command")), "what it said may be a secret")
		Expect(c).To(BeZero())
		Expect(logged).To(gbytes.Say("gave no credential"))
		Expect(os.Remove(broken)).To(Succeed())
		_, _, err = e.For(ctx, "a")
		Expect(err).NotTo(HaveOccurred())
	})

	It("does not show what the command says on its standard error", func(ctx context.Context) {
		shown, err := os.Create(filepath.Join(dir, "shown"))
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(stderr *os.File) { os.Stderr = stderr }, os.Stderr)
		os.Stderr = shown
		_, _, err = helper("echo from-a-command >&2; exit 1", nil).For(ctx, "a")
		Expect(err).To(HaveOccurred())
		Expect(os.ReadFile(shown.Name())).To(BeEmpty())
		Expect(logged.Contents()).NotTo(ContainSubstring("from-a-command"))
	})

	It("does not wait for a command that hangs", func(ctx context.Context) {
		e := helper("sleep 600", nil)
		e.Timeout = 100 * time.Millisecond
		_, _, err := e.For(ctx, "a")
		Expect(err).To(MatchError("the credential command did not end in time"))
	}, SpecTimeout(2*time.Minute))

	It("ends a command that nobody waits for, with all that it started", func(ctx context.Context) {
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
		Expect(io.ReadAll(file)).To(BeEmpty(), "it ends when its last writer has ended")
		Expect(logged.Contents()).To(BeEmpty())
	}, SpecTimeout(2*time.Minute))

	It("does not read without an end", func(ctx context.Context) {
		_, _, err := helper("exec yes", nil).For(ctx, "a")
		Expect(err).To(MatchError(ContainSubstring("gave no credential")))
	}, SpecTimeout(2*time.Minute))

	It("needs a command, and a whole credential", func(ctx context.Context) {
		missing := helper(answer, nil)
		missing.Command += "-missing"
		_, _, err := missing.For(ctx, "a")
		Expect(err).To(HaveOccurred())
		_, _, err = helper(`echo '{"Username":"robot"}'`, nil).For(ctx, "a")
		Expect(err).To(MatchError(ContainSubstring("needs a user name and a password")))
	})
})
