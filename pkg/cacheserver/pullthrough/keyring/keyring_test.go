// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/sirupsen/logrus"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/keyring"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/credentials"
)

var _ = Describe("Keyring", func() {
	var (
		source   *fakeSource
		upstream *fakeUpstream
		clock    *clocktesting.FakeClock
		observed *recorder
		ring     *keyring.Keyring
	)

	start := func() {
		GinkgoHelper()
		log := logrus.New()
		log.SetOutput(GinkgoWriter)
		ring = keyring.New(keyring.Options{Source: source, Clock: clock, Log: log, Observe: observed.observe})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			ring.Run(ctx, upstream)
		}()
		DeferCleanup(func() {
			cancel()
			Eventually(done).Should(BeClosed())
		})
	}
	active := func() string {
		_, c, err := ring.For(context.Background(), "team/app")
		if err != nil {
			return err.Error()
		}
		return c.Password
	}
	report := func() credentials.Report {
		GinkgoHelper()
		r := ring.Report()
		Expect(r).NotTo(BeNil())
		r.Since = time.Time{}
		r.Message = ""
		return *r
	}
	// advance moves the clock once Run waits for it.
	advance := func(d time.Duration) {
		GinkgoHelper()
		Eventually(clock.HasWaiters).Should(BeTrue())
		clock.Step(d)
	}

	// startWithOne starts with a credential that the upstream accepts.
	startWithOne := func() {
		GinkgoHelper()
		source.set("one", "")
		start()
		Eventually(report).Should(HaveField("State", credentials.StateActive))
	}
	// advanceToCheck moves the clock to the next check of the second credential.
	advanceToCheck := func(d time.Duration) {
		GinkgoHelper()
		before := upstream.checksOf("two")
		advance(d)
		Eventually(func() int { return upstream.checksOf("two") }).Should(Equal(before + 1))
	}

	BeforeEach(func() {
		source = &fakeSource{}
		upstream = &fakeUpstream{results: map[string]error{}}
		clock = clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		observed = &recorder{}
	})

	It("uses the only credential at once, and reports when the upstream accepts it", func() {
		upstream.respond("one", unreachable)
		source.set("one", "")
		start()
		Expect(active()).To(Equal("one"))
		Eventually(upstream.checked).Should(ContainElement("one"))
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-one", State: credentials.StatePending}))
		Eventually(func() string { return ring.Report().Message }).Should(ContainSubstring("registry.example.com"))

		upstream.respond("one", nil)
		advance(time.Second)
		Eventually(report).Should(Equal(credentials.Report{SecretName: "secret-one", State: credentials.StateActive}))
		Expect(observed.last().ActiveSince).To(Equal(clock.Now()))
		Expect(observed.last().PendingSince).To(BeZero(), "there is no candidate")
	})

	It("uses the only credential even if it is rejected, and reports that", func() {
		upstream.respond("one", rejection)
		source.set("one", "")
		start()
		rejected := credentials.Report{SecretName: "secret-one", State: credentials.StateRejected, UpstreamStatusCode: http.StatusUnauthorized}
		Eventually(report).Should(Equal(rejected))
		Expect(active()).To(Equal("one"))
		Expect(observed.last().ActiveSince).To(BeZero())

		By("keeping the result while the upstream is unavailable")
		upstream.respond("one", unreachable)
		before := len(upstream.checked())
		advance(30 * time.Second)
		Eventually(upstream.checked).Should(HaveLen(before + 1))
		Consistently(report, "50ms").Should(Equal(rejected))
	})

	It("activates a candidate once the upstream accepts it, and forgets the previous credential", func() {
		startWithOne()

		release := upstream.hold("two")
		source.set("two", "one")
		Expect(active()).To(Equal("one"), "a candidate is not used before its check")
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-one", PendingSecretName: "secret-two", State: credentials.StatePending}))
		Eventually(upstream.checked).Should(ContainElement("two"))
		Expect(active()).To(Equal("one"))
		Expect(upstream.retained()).To(BeEmpty())

		close(release)
		Eventually(active).Should(Equal("two"))
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-two", State: credentials.StateActive}))
		Eventually(upstream.retained).Should(Equal([]string{"two"}))
	})

	It("notices a new credential without pulls", func() {
		source.set("one", "")
		start()
		Eventually(upstream.checked).Should(Equal([]string{"one"}))
		source.set("two", "one")
		advance(5 * time.Second)
		Eventually(upstream.checked).Should(Equal([]string{"one", "two"}))
	})

	It("keeps the active credential while the candidate is rejected", func() {
		startWithOne()
		upstream.respond("two", rejection)
		source.set("two", "one")
		rejected := credentials.Report{
			SecretName: "secret-one", PendingSecretName: "secret-two", State: credentials.StateRejected, UpstreamStatusCode: http.StatusUnauthorized,
		}
		Eventually(report).Should(Equal(rejected))
		Expect(active()).To(Equal("one"))
		Expect(observed.last().ActiveSince).NotTo(BeZero(), "the active one is still accepted")
		waiting := observed.last().PendingSince
		Expect(waiting).NotTo(BeZero())

		By("checking it again at intervals")
		before := len(upstream.checked())
		advance(30 * time.Second)
		Eventually(upstream.checked).Should(HaveLen(before + 1))
		Expect(active()).To(Equal("one"))
		Expect(observed.last().PendingSince).To(Equal(waiting), "since the candidate was noticed, whatever its state")

		By("activating the next candidate")
		source.set("three", "one")
		Eventually(active).Should(Equal("three"))
		Eventually(func() time.Time { return observed.last().PendingSince }).Should(BeZero())
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-three", State: credentials.StateActive}))
	})

	It("knows since when a candidate is pending after a restart", func() {
		written := clock.Now().Add(-time.Hour)
		upstream.respond("two", rejection)
		source.writtenAt(written)
		source.set("two", "one")
		start()
		Eventually(func() time.Time { return observed.last().PendingSince }).Should(Equal(written))

		By("ignoring a time in the future")
		upstream.respond("three", rejection)
		source.writtenAt(clock.Now().Add(time.Hour))
		source.set("three", "one")
		advance(5 * time.Second)
		Eventually(func() time.Time { return observed.last().PendingSince }).Should(And(
			BeTemporally(">", written), BeTemporally("<=", clock.Now()),
		))
	})

	It("keeps the candidate pending until the upstream is available", func() {
		startWithOne()
		upstream.respond("two", unreachable)
		source.set("two", "one")
		pending := credentials.Report{SecretName: "secret-one", PendingSecretName: "secret-two", State: credentials.StatePending}
		for i := range 3 {
			Eventually(func() int { _ = active(); return len(upstream.checked()) }).Should(Equal(2 + i))
			Expect(report()).To(Equal(pending))
			advance(time.Minute)
		}
		upstream.respond("two", nil)
		advance(time.Minute)
		Eventually(active).Should(Equal("two"))
	})

	It("uses the previous credential after a restart during a rotation", func() {
		upstream.respond("two", rejection)
		source.set("two", "one")
		start()
		Expect(active()).To(Equal("one"))
		Eventually(report).Should(HaveField("State", credentials.StateRejected))
		Expect(active()).To(Equal("one"))
	})

	It("reverts a rotation", func() {
		startWithOne()
		upstream.respond("two", rejection)
		source.set("two", "one")
		Eventually(report).Should(HaveField("State", credentials.StateRejected))
		source.set("one", "")
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-one", State: credentials.StateActive}))
	})

	It("renames a credential without a check", func() {
		startWithOne()
		source.rename("secret-renamed")
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-renamed", State: credentials.StateActive}))
	})

	It("checks the active credential after rejected pulls, but not after each of them", func() {
		startWithOne()
		upstream.respond("one", rejection)
		for range 100 {
			ring.Rejected()
		}
		Consistently(upstream.checked, "50ms").Should(HaveLen(1))
		advance(15 * time.Second)
		Eventually(report).Should(HaveField("State", credentials.StateRejected))
		Expect(upstream.checked()).To(HaveLen(2))
	})

	It("expedites the check of the candidate after a rejected pull", func() {
		startWithOne()
		upstream.respond("two", rejection)
		source.set("two", "one")
		Eventually(report).Should(HaveField("State", credentials.StateRejected))
		// The interval grows to its maximum.
		for _, wait := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute} {
			advanceToCheck(wait)
		}

		By("not checking it after each rejection")
		before := upstream.checksOf("two")
		for range 100 {
			ring.Rejected()
		}
		Consistently(func() int { return upstream.checksOf("two") }, "50ms").Should(Equal(before))

		upstream.respond("one", rejection)
		upstream.respond("two", nil)
		advance(15 * time.Second)
		Eventually(active).Should(Equal("two"))
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-two", State: credentials.StateActive}))
	})

	It("checks the candidate at once after a rejected pull if the last check was long ago", func() {
		startWithOne()
		upstream.respond("two", unreachable)
		source.set("two", "one")
		for i := range 6 {
			Eventually(func() int { _ = active(); return upstream.checksOf("two") }).Should(Equal(1 + i))
			advance(time.Second << i)
		}
		Eventually(func() int { return upstream.checksOf("two") }).Should(Equal(7))
		advance(20 * time.Second)
		Consistently(func() int { return upstream.checksOf("two") }, "50ms").Should(Equal(7))
		upstream.respond("two", nil)
		ring.Rejected()
		Eventually(active).Should(Equal("two"))
	})

	It("expedites the check of the candidate when a check rejects the active credential", func() {
		startWithOne()
		upstream.respond("two", rejection)
		source.set("two", "one")
		Eventually(report).Should(HaveField("State", credentials.StateRejected))
		for _, wait := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute} {
			advanceToCheck(wait)
		}
		upstream.respond("one", rejection)
		upstream.respond("two", nil)
		advance(150 * time.Second) // The active one is due now, the candidate minutes later.
		Eventually(active).Should(Equal("two"))
	})

	It("reports that the active credential is rejected while the candidate is pending", func() {
		upstream.respond("one", rejection)
		upstream.respond("two", unreachable)
		source.set("two", "one")
		start()
		Eventually(func() string { return ring.Report().Message }).Should(Equal(
			"the upstream rejects the active credential with status 401; the candidate is not confirmed: " + unreachable.Error()))
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-one", PendingSecretName: "secret-two", State: credentials.StatePending}),
			"the result for the candidate is unknown")
		Expect(observed.last().Rejected).To(BeTrue(), "pulls fail")
		Expect(observed.last().ActiveSince).To(BeZero())

		upstream.respond("two", nil)
		advance(15 * time.Second)
		Eventually(report).Should(Equal(credentials.Report{SecretName: "secret-two", State: credentials.StateActive}))
		Expect(observed.last().Rejected).To(BeFalse())
	})

	It("accepts the only credential of an upstream that does not ask for it, until a pull is rejected", func() {
		upstream.respond("one", errNotChallenged)
		source.set("one", "")
		start()
		Eventually(report).Should(Equal(credentials.Report{SecretName: "secret-one", State: credentials.StateActive}))
		upstream.respond("one", rejection)
		ring.Rejected()
		advance(15 * time.Second)
		Eventually(report).Should(HaveField("State", credentials.StateRejected))
	})

	It("gives an upstream time to ask for the candidate", func() {
		startWithOne()
		upstream.respond("two", errNotChallenged)
		source.set("two", "one")
		Eventually(func() int { _ = active(); return upstream.checksOf("two") }).Should(Equal(1))
		for i := range 9 {
			advance(time.Minute)
			Eventually(func() int { return upstream.checksOf("two") }).Should(Equal(2 + i))
			Expect(report()).To(Equal(credentials.Report{SecretName: "secret-one", PendingSecretName: "secret-two", State: credentials.StatePending}))
		}
		advance(time.Minute)
		Eventually(active).Should(Equal("two"))
	})

	It("does not wait for the upstream to ask if the active credential is rejected", func() {
		upstream.respond("one", rejection)
		upstream.respond("two", errNotChallenged)
		source.set("two", "one")
		start()
		Eventually(func() int { return upstream.checksOf("one") }).Should(Equal(1))
		advance(15 * time.Second)
		Eventually(active).Should(Equal("two"))
	})

	It("confirms the active credential without pulls", func() {
		startWithOne()
		upstream.respond("one", rejection)
		advance(10 * time.Minute)
		Eventually(report).Should(HaveField("State", credentials.StateRejected))
	})

	It("reports a missing credential, and keeps the last one", func() {
		source.fail(errors.New("password hunter2 cannot be parsed"))
		start()
		Expect(active()).To(ContainSubstring("cannot read"))
		Expect(report()).To(Equal(credentials.Report{State: credentials.StateMissing}))
		Expect(ring.Report().Message).NotTo(ContainSubstring("hunter2"))

		source.set("one", "")
		Expect(active()).To(Equal("one"))
		Eventually(report).Should(Equal(credentials.Report{SecretName: "secret-one", State: credentials.StateActive}))
		source.fail(errors.New("gone"))
		Expect(active()).To(Equal("one"))
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-one", State: credentials.StateMissing}))
	})

	It("reports nothing for anonymous access", func() {
		source.contents = &keyring.Contents{}
		start()
		Expect(ring.Report()).To(BeNil())
		Expect(observed.count()).To(BeZero())
	})

	It("supports concurrent use", func() {
		source.set("one", "")
		start()
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for range 200 {
					_ = active()
					ring.Report()
					ring.Rejected()
				}
			})
		}
		for _, name := range []string{"two", "three", "four"} {
			source.set(name, "one")
			Eventually(active).Should(Equal(name))
		}
		group.Wait()
	})
})

var (
	rejection        = &remote.Error{Reason: remote.Unauthorized, Status: http.StatusUnauthorized, Host: "registry.example.com", Cause: "status 401"}
	unreachable      = &remote.Error{Reason: remote.Unavailable, Host: "registry.example.com", Cause: "no response in time"}
	errNotChallenged = &remote.Error{Reason: remote.NotChallenged, Host: "registry.example.com", Cause: "has not asked for the credential yet"}
)

type fakeSource struct {
	mu       sync.Mutex
	contents *keyring.Contents
	err      error
	written  time.Time
}

// writtenAt is the time at which the next credentials are written.
func (f *fakeSource) writtenAt(t time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.written = t
}

func newSet(password string) keyring.Set {
	return keyring.NewSet("secret-"+password, credentials.Credential{Username: "robot", Password: password})
}

func (f *fakeSource) set(password, previous string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.contents, f.err = &keyring.Contents{Wanted: newSet(password), Written: f.written}, nil
	if previous != "" {
		f.contents.Previous = new(newSet(previous))
	}
}

func (f *fakeSource) rename(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	renamed := *f.contents
	renamed.Wanted.Name = name
	f.contents = &renamed
}

func (f *fakeSource) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fakeSource) Read() (*keyring.Contents, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.contents, f.err
}

// fakeUpstream has a result for each password.
type fakeUpstream struct {
	mu      sync.Mutex
	results map[string]error
	holds   map[string]chan struct{}
	checks  []string
	kept    []string
}

func (f *fakeUpstream) respond(password string, err *remote.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.results, password)
		return
	}
	f.results[password] = err
}

// hold blocks the check of a password until the channel is closed.
func (f *fakeUpstream) hold(password string) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	release := make(chan struct{})
	f.holds = map[string]chan struct{}{password: release}
	return release
}

func (f *fakeUpstream) checked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.checks...)
}

func (f *fakeUpstream) checksOf(password string) int {
	checks := 0
	for _, checked := range f.checked() {
		if checked == password {
			checks++
		}
	}
	return checks
}

func (f *fakeUpstream) retained() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.kept...)
}

func (f *fakeUpstream) Check(ctx context.Context, candidate, _ remote.CredentialSet) error {
	password := candidate.All()[0].Password
	f.mu.Lock()
	f.checks = append(f.checks, password)
	err, hold := f.results[password], f.holds[password]
	f.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
		}
	}
	return err
}

func (f *fakeUpstream) Retain(set remote.CredentialSet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept = nil
	for _, c := range set.All() {
		f.kept = append(f.kept, c.Password)
	}
}

type recorder struct {
	mu        sync.Mutex
	snapshots []keyring.Snapshot
}

func (r *recorder) observe(s keyring.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.snapshots = append(r.snapshots, s)
}

func (r *recorder) last() keyring.Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.snapshots[len(r.snapshots)-1]
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.snapshots)
}
