// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package issuer_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/issuer"
)

// service is an issuer that counts its credentials.
type service struct {
	clock    *clocktesting.FakeClock
	lifetime time.Duration

	mu     sync.Mutex
	err    error
	issued int
	// block holds up an attempt until it is closed; nil does not.
	block   chan struct{}
	running atomic.Int32
}

func (s *service) Issue(ctx context.Context) (credentials.Credential, time.Time, error) {
	defer s.running.Add(-1)
	if s.running.Add(1) > 1 {
		return credentials.Credential{}, time.Time{}, errors.New("two attempts at once")
	}
	s.mu.Lock()
	block := s.block
	s.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return credentials.Credential{}, time.Time{}, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return credentials.Credential{}, time.Time{}, s.err
	}
	s.issued++
	return credentials.Credential{Username: "robot", Password: strconv.Itoa(s.issued)}, s.clock.Now().Add(s.lifetime), nil
}

func (s *service) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

var _ = Describe("Renewer", func() {
	const lifetime = 12 * time.Hour
	var (
		clock   *clocktesting.FakeClock
		s       *service
		renewer *issuer.Renewer
		ctx     context.Context
	)
	BeforeEach(func() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.Background(), 30*time.Second)
		DeferCleanup(cancel)
		clock = clocktesting.NewFakeClock(time.Now())
		s = &service{clock: clock, lifetime: lifetime}
		renewer = issuer.NewRenewer(s, clock)
	})
	password := func() string {
		GinkgoHelper()
		c, err := renewer.Credential(ctx)
		Expect(err).NotTo(HaveOccurred())
		return c.Password
	}
	until := func() time.Duration { return renewer.Due().Sub(clock.Now()) }

	It("renews at about two thirds of the lifetime, at random times", func() {
		Expect(until()).To(BeZero())
		times := map[time.Duration]bool{}
		for range 20 {
			Expect(renewer.Renew(ctx)).To(Succeed())
			Expect(until()).To(And(BeNumerically(">=", lifetime*6/10), BeNumerically("<=", lifetime*7/10)))
			times[until()] = true
			clock.Step(until())
		}
		Expect(len(times)).To(BeNumerically(">", 10))
		Expect(password()).To(Equal("20"))
	})

	It("keeps the credential until it expires while renewals fail", func() {
		Expect(renewer.Renew(ctx)).To(Succeed())
		expires := clock.Now().Add(lifetime)
		s.fail(errors.New("service is down"))
		attempts := 0
		for clock.Now().Add(until()).Before(expires) {
			Expect(password()).To(Equal("1"))
			clock.Step(until())
			Expect(renewer.Renew(ctx)).To(MatchError("service is down"))
			Expect(until()).To(And(BeNumerically(">=", time.Second), BeNumerically("<=", 72*time.Second)))
			attempts++
		}
		Expect(attempts).To(And(BeNumerically(">", 180), BeNumerically("<", 320)))
		clock.SetTime(expires)
		_, err := renewer.Credential(ctx)
		Expect(err).To(MatchError("service is down"))

		s.fail(nil)
		Expect(renewer.Renew(ctx)).To(Succeed())
		Expect(password()).To(Equal("2"))
	})

	It("does not use an expired credential that nothing renews", func() {
		Expect(renewer.Renew(ctx)).To(Succeed())
		clock.Step(lifetime)
		_, err := renewer.Credential(ctx)
		Expect(err).To(MatchError(ContainSubstring("expired")))
	})

	It("does not take an expired or invalid credential", func() {
		s.lifetime = 0
		Expect(renewer.Renew(ctx)).To(MatchError(ContainSubstring("expired")))
		Expect(until()).To(BeNumerically(">=", time.Second))
	})

	It("bounds the rate of renewals", func() {
		s.lifetime = time.Nanosecond
		Expect(renewer.Renew(ctx)).To(Succeed())
		Expect(until()).To(BeNumerically(">=", time.Second/2))
	})

	It("makes one attempt at a time, whose result all callers take", func() {
		s.block = make(chan struct{})
		results := make(chan error, 10)
		for range cap(results) {
			go func() { results <- renewer.Renew(ctx) }()
		}
		Eventually(s.running.Load).Should(BeEquivalentTo(1))
		time.Sleep(10 * time.Millisecond) // Let the others wait.
		clock.Step(time.Millisecond)      // The attempt ends after all calls.
		close(s.block)
		for range cap(results) {
			Expect(<-results).To(Succeed())
		}
		Expect(password()).To(Equal("1"))
	})

	It("makes readers wait for the first attempt only", func() {
		waiting, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		_, err := renewer.Credential(waiting)
		Expect(err).To(MatchError(context.DeadlineExceeded))

		s.fail(errors.New("service is down"))
		Expect(renewer.Renew(ctx)).NotTo(Succeed())
		_, err = renewer.Credential(ctx)
		Expect(err).To(MatchError("service is down"))
	})

	It("does not take the end of its context for a failure", func() {
		Expect(renewer.Renew(ctx)).To(Succeed())
		due := renewer.Due()
		s.block = make(chan struct{})
		ending, cancel := context.WithCancel(ctx)
		go func() {
			defer GinkgoRecover()
			Eventually(s.running.Load).Should(BeEquivalentTo(1))
			cancel()
		}()
		Expect(renewer.Renew(ending)).To(MatchError(context.Canceled))
		Expect(renewer.Due()).To(Equal(due))
		Expect(password()).To(Equal("1"))
	})

	It("tries again at once with a newer token after a failure", func() {
		s.fail(errors.New("the token has expired"))
		for range 10 {
			Expect(renewer.Renew(ctx)).NotTo(Succeed())
		}
		Expect(until()).To(BeNumerically(">", 30*time.Second))
		newer := &service{clock: clock, lifetime: lifetime}
		renewer.Replace(newer)
		Expect(until()).To(BeZero())
		Expect(renewer.Renew(ctx)).To(Succeed())
		Expect(newer.issued).To(Equal(1))
	})

	It("keeps the time of the renewal when a token is replaced in time", func() {
		Expect(renewer.Renew(ctx)).To(Succeed())
		due := renewer.Due()
		renewer.Replace(&service{clock: clock, lifetime: lifetime})
		Expect(renewer.Due()).To(Equal(due))
	})

	It("renews earlier when the upstream rejects the credential", func() {
		Expect(renewer.Renew(ctx)).To(Succeed())
		due := renewer.Due()
		renewer.RenewBy(due.Add(time.Second))
		Expect(renewer.Due()).To(Equal(due))
		renewer.RenewBy(clock.Now().Add(30 * time.Second))
		Expect(until()).To(Equal(30 * time.Second))

		s.fail(errors.New("service is down"))
		Expect(renewer.Renew(ctx)).NotTo(Succeed())
		due = renewer.Due()
		renewer.RenewBy(clock.Now())
		Expect(renewer.Due()).To(Equal(due), "a failed attempt keeps its interval")
		Expect(renewer.Err()).To(MatchError("service is down"))
	})

	It("renews in the background until its context ends", func() {
		ending, cancel := context.WithCancel(ctx)
		changed, done := make(chan struct{}, 10), make(chan struct{})
		go func() {
			defer close(done)
			renewer.Run(ending, func() { changed <- struct{}{} })
		}()
		Eventually(changed).Should(Receive())
		for range 3 {
			Eventually(func() bool { clock.Step(time.Hour); return len(changed) > 0 }).Should(BeTrue())
			<-changed
		}
		cancel()
		Eventually(done).Should(BeClosed())
	})
})
