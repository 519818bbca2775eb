// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package staging_test

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
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/staging"
	"github.com/larder-project/larder/pkg/credentials"
)

var _ = Describe("Keyring", func() {
	var (
		source *fakeSource
		judge  *fakeUpstream
		clock  *clocktesting.FakeClock
		told   *recorder
		ring   *staging.Keyring
	)

	start := func() {
		GinkgoHelper()
		log := logrus.New()
		log.SetOutput(GinkgoWriter)
		ring = staging.New(source, clock, log, told.observe)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			ring.Run(ctx, judge)
		}()
		DeferCleanup(func() {
			cancel()
			Eventually(done).Should(BeClosed())
		})
	}
	inUse := func() string {
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
	// pass lets time pass, as soon as somebody waits for it.
	pass := func(d time.Duration) {
		GinkgoHelper()
		Eventually(clock.HasWaiters).Should(BeTrue())
		clock.Step(d)
	}

	// startWithOne begins with a credential that the upstream accepts.
	startWithOne := func() {
		GinkgoHelper()
		source.set("one", "")
		start()
		Eventually(report).Should(HaveField("State", credentials.StateActive))
	}
	// passToTrial lets the time pass until the second credential is tried again.
	passToTrial := func(d time.Duration) {
		GinkgoHelper()
		tries := judge.triesOf("two")
		pass(d)
		Eventually(func() int { return judge.triesOf("two") }).Should(Equal(tries + 1))
	}

	BeforeEach(func() {
		source = &fakeSource{}
		judge = &fakeUpstream{answers: map[string]error{}}
		clock = clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		told = &recorder{}
	})

	It("uses the only credential at once, and says when the upstream has accepted it", func() {
		judge.answer("one", unreachable)
		source.set("one", "")
		start()
		Expect(inUse()).To(Equal("one"))
		Eventually(judge.tried).Should(ContainElement("one"))
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-one", State: credentials.StatePending}))
		Eventually(func() string { return ring.Report().Message }).Should(ContainSubstring("registry.example.com"))

		judge.answer("one", nil)
		pass(time.Second)
		Eventually(report).Should(Equal(credentials.Report{SecretName: "secret-one", State: credentials.StateActive}))
		Expect(told.last().ActiveSince).To(Equal(clock.Now()))
	})

	It("uses the only credential even if it is rejected, and says so", func() {
		judge.answer("one", refused)
		source.set("one", "")
		start()
		rejected := credentials.Report{SecretName: "secret-one", State: credentials.StateRejected, UpstreamStatusCode: http.StatusUnauthorized}
		Eventually(report).Should(Equal(rejected))
		Expect(inUse()).To(Equal("one"))
		Expect(told.last().ActiveSince).To(BeZero())

		By("keeping the verdict while the upstream is away")
		judge.answer("one", unreachable)
		tries := len(judge.tried())
		pass(30 * time.Second)
		Eventually(judge.tried).Should(HaveLen(tries + 1))
		Consistently(report, "50ms").Should(Equal(rejected))
	})

	It("takes over a new credential once the upstream accepts it, and forgets the old one", func() {
		startWithOne()

		release := judge.hold("two")
		source.set("two", "one")
		Expect(inUse()).To(Equal("one"), "it is noticed, and not used before it is tried")
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-one", PendingSecretName: "secret-two", State: credentials.StatePending}))
		Eventually(judge.tried).Should(ContainElement("two"))
		Expect(inUse()).To(Equal("one"))
		Expect(judge.retained()).To(BeEmpty())

		close(release)
		Eventually(inUse).Should(Equal("two"))
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-two", State: credentials.StateActive}))
		Eventually(judge.retained).Should(Equal([]string{"two"}))
	})

	It("notices a new credential when nobody pulls", func() {
		source.set("one", "")
		start()
		Eventually(judge.tried).Should(Equal([]string{"one"}))
		source.set("two", "one")
		pass(5 * time.Second)
		Eventually(judge.tried).Should(Equal([]string{"one", "two"}))
	})

	It("stays with the old credential as long as the new one is rejected", func() {
		startWithOne()
		judge.answer("two", refused)
		source.set("two", "one")
		rejected := credentials.Report{
			SecretName: "secret-one", PendingSecretName: "secret-two", State: credentials.StateRejected, UpstreamStatusCode: http.StatusUnauthorized,
		}
		Eventually(report).Should(Equal(rejected))
		Expect(inUse()).To(Equal("one"))
		Expect(told.last().ActiveSince).NotTo(BeZero(), "the old one is still accepted")

		By("trying it again now and then")
		tries := len(judge.tried())
		pass(30 * time.Second)
		Eventually(judge.tried).Should(HaveLen(tries + 1))
		Expect(inUse()).To(Equal("one"))

		By("clearing it with the next one")
		source.set("three", "one")
		Eventually(inUse).Should(Equal("three"))
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-three", State: credentials.StateActive}))
	})

	It("waits with the new credential until the upstream is back", func() {
		startWithOne()
		judge.answer("two", unreachable)
		source.set("two", "one")
		pending := credentials.Report{SecretName: "secret-one", PendingSecretName: "secret-two", State: credentials.StatePending}
		for i := range 3 {
			Eventually(func() int { _ = inUse(); return len(judge.tried()) }).Should(Equal(2 + i))
			Expect(report()).To(Equal(pending))
			pass(time.Minute)
		}
		judge.answer("two", nil)
		pass(time.Minute)
		Eventually(inUse).Should(Equal("two"))
	})

	It("goes on with the previous credential when it starts in the middle of a rotation", func() {
		judge.answer("two", refused)
		source.set("two", "one")
		start()
		Expect(inUse()).To(Equal("one"))
		Eventually(report).Should(HaveField("State", credentials.StateRejected))
		Expect(inUse()).To(Equal("one"))
	})

	It("takes a rotation back", func() {
		startWithOne()
		judge.answer("two", refused)
		source.set("two", "one")
		Eventually(report).Should(HaveField("State", credentials.StateRejected))
		source.set("one", "")
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-one", State: credentials.StateActive}))
	})

	It("needs no trial for another name of the same credential", func() {
		startWithOne()
		source.rename("secret-renamed")
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-renamed", State: credentials.StateActive}))
	})

	It("looks again when pulls are refused, but not at each of them", func() {
		startWithOne()
		judge.answer("one", refused)
		for range 100 {
			ring.Refused()
		}
		Consistently(judge.tried, "50ms").Should(HaveLen(1))
		pass(15 * time.Second)
		Eventually(report).Should(HaveField("State", credentials.StateRejected))
		Expect(judge.tried()).To(HaveLen(2))
	})

	It("tries the new credential soon when the old one is refused", func() {
		startWithOne()
		judge.answer("two", refused)
		source.set("two", "one")
		Eventually(report).Should(HaveField("State", credentials.StateRejected))
		// The wait for the next trial grows to its maximum.
		for _, wait := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute} {
			passToTrial(wait)
		}

		By("not trying it at each refusal")
		tries := judge.triesOf("two")
		for range 100 {
			ring.Refused()
		}
		Consistently(func() int { return judge.triesOf("two") }, "50ms").Should(Equal(tries))

		judge.answer("one", refused)
		judge.answer("two", nil)
		pass(15 * time.Second)
		Eventually(inUse).Should(Equal("two"))
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-two", State: credentials.StateActive}))
	})

	It("tries the new credential at once when the last trial was long ago", func() {
		startWithOne()
		judge.answer("two", unreachable)
		source.set("two", "one")
		for i := range 6 {
			Eventually(func() int { _ = inUse(); return judge.triesOf("two") }).Should(Equal(1 + i))
			pass(time.Second << i)
		}
		Eventually(func() int { return judge.triesOf("two") }).Should(Equal(7))
		pass(20 * time.Second)
		Consistently(func() int { return judge.triesOf("two") }, "50ms").Should(Equal(7))
		judge.answer("two", nil)
		ring.Refused()
		Eventually(inUse).Should(Equal("two"))
	})

	It("tries the new credential when it finds the old one refused without a pull", func() {
		startWithOne()
		judge.answer("two", refused)
		source.set("two", "one")
		Eventually(report).Should(HaveField("State", credentials.StateRejected))
		for _, wait := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute} {
			passToTrial(wait)
		}
		judge.answer("one", refused)
		judge.answer("two", nil)
		pass(150 * time.Second) // The old one is to be confirmed now, the new one would be tried minutes later.
		Eventually(inUse).Should(Equal("two"))
	})

	It("says that the old credential is refused while the new one waits", func() {
		judge.answer("one", refused)
		judge.answer("two", unreachable)
		source.set("two", "one")
		start()
		Eventually(func() string { return ring.Report().Message }).Should(Equal(
			"the upstream refuses the credential in use with status 401; the new one waits: " + unreachable.Error()))
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-one", PendingSecretName: "secret-two", State: credentials.StatePending}),
			"there is no verdict on the new one")
		Expect(told.last().Rejected).To(BeTrue(), "pulls fail")
		Expect(told.last().ActiveSince).To(BeZero())

		judge.answer("two", nil)
		pass(15 * time.Second)
		Eventually(report).Should(Equal(credentials.Report{SecretName: "secret-two", State: credentials.StateActive}))
		Expect(told.last().Rejected).To(BeFalse())
	})

	It("accepts the only credential of an upstream that asks for none, until it is refused", func() {
		judge.answer("one", unasked)
		source.set("one", "")
		start()
		Eventually(report).Should(Equal(credentials.Report{SecretName: "secret-one", State: credentials.StateActive}))
		judge.answer("one", refused)
		ring.Refused()
		pass(15 * time.Second)
		Eventually(report).Should(HaveField("State", credentials.StateRejected))
	})

	It("gives an upstream time to ask for the new credential", func() {
		startWithOne()
		judge.answer("two", unasked)
		source.set("two", "one")
		Eventually(func() int { _ = inUse(); return judge.triesOf("two") }).Should(Equal(1))
		for i := range 9 {
			pass(time.Minute)
			Eventually(func() int { return judge.triesOf("two") }).Should(Equal(2 + i))
			Expect(report()).To(Equal(credentials.Report{SecretName: "secret-one", PendingSecretName: "secret-two", State: credentials.StatePending}))
		}
		pass(time.Minute)
		Eventually(inUse).Should(Equal("two"))
	})

	It("does not wait for the upstream to ask when the old credential is refused", func() {
		judge.answer("one", refused)
		judge.answer("two", unasked)
		source.set("two", "one")
		start()
		Eventually(func() int { return judge.triesOf("one") }).Should(Equal(1))
		pass(15 * time.Second)
		Eventually(inUse).Should(Equal("two"))
	})

	It("confirms a credential that nobody uses", func() {
		startWithOne()
		judge.answer("one", refused)
		pass(10 * time.Minute)
		Eventually(report).Should(HaveField("State", credentials.StateRejected))
	})

	It("says that a credential is missing, and keeps the last one", func() {
		source.fail(errors.New("password hunter2 cannot be parsed"))
		start()
		Expect(inUse()).To(ContainSubstring("cannot be read"))
		Expect(report()).To(Equal(credentials.Report{State: credentials.StateMissing}))
		Expect(ring.Report().Message).NotTo(ContainSubstring("hunter2"))

		source.set("one", "")
		Expect(inUse()).To(Equal("one"))
		Eventually(report).Should(Equal(credentials.Report{SecretName: "secret-one", State: credentials.StateActive}))
		source.fail(errors.New("gone"))
		Expect(inUse()).To(Equal("one"))
		Expect(report()).To(Equal(credentials.Report{SecretName: "secret-one", State: credentials.StateMissing}))
	})

	It("has nothing to tell about anonymous access", func() {
		source.contents = &keyring.Contents{}
		start()
		Expect(ring.Report()).To(BeNil())
		Expect(told.count()).To(BeZero())
	})

	It("stands many at once", func() {
		source.set("one", "")
		start()
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for range 200 {
					_ = inUse()
					ring.Report()
					ring.Refused()
				}
			})
		}
		for _, name := range []string{"two", "three", "four"} {
			source.set(name, "one")
			Eventually(inUse).Should(Equal(name))
		}
		group.Wait()
	})
})

var (
	refused     = &remote.Error{Reason: remote.Unauthorized, Status: http.StatusUnauthorized, Host: "registry.example.com", Cause: "it says no"}
	unreachable = &remote.Error{Reason: remote.Unavailable, Host: "registry.example.com", Cause: "it does not answer in time"}
	unasked     = &remote.Error{Reason: remote.Unasked, Host: "registry.example.com", Cause: "it has not asked for the credential yet"}
)

type fakeSource struct {
	mu       sync.Mutex
	contents *keyring.Contents
	err      error
}

func newSet(password string) keyring.Set {
	return keyring.NewSet("secret-"+password, credentials.Credential{Username: "robot", Password: password})
}

func (f *fakeSource) set(password, previous string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.contents, f.err = &keyring.Contents{Wanted: newSet(password)}, nil
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

// fakeUpstream answers by password.
type fakeUpstream struct {
	mu      sync.Mutex
	answers map[string]error
	holds   map[string]chan struct{}
	trials  []string
	kept    []string
}

func (f *fakeUpstream) answer(password string, err *remote.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.answers, password)
		return
	}
	f.answers[password] = err
}

// hold makes the upstream take its time over a password until the channel is closed.
func (f *fakeUpstream) hold(password string) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	release := make(chan struct{})
	f.holds = map[string]chan struct{}{password: release}
	return release
}

func (f *fakeUpstream) tried() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.trials...)
}

func (f *fakeUpstream) triesOf(password string) int {
	tries := 0
	for _, tried := range f.tried() {
		if tried == password {
			tries++
		}
	}
	return tries
}

func (f *fakeUpstream) retained() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.kept...)
}

func (f *fakeUpstream) Try(ctx context.Context, candidates, _ remote.CredentialSet) error {
	password := candidates.All()[0].Password
	f.mu.Lock()
	f.trials = append(f.trials, password)
	err, hold := f.answers[password], f.holds[password]
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
	snapshots []staging.Snapshot
}

func (r *recorder) observe(s staging.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.snapshots = append(r.snapshots, s)
}

func (r *recorder) last() staging.Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.snapshots[len(r.snapshots)-1]
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.snapshots)
}
