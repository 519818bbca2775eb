// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package coalesce_test

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"go.uber.org/goleak"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
)

var _ = Describe("Group", func() {
	var group *coalesce.Group[string, int]

	BeforeEach(func() {
		running := goleak.IgnoreCurrent()
		DeferCleanup(func() { Eventually(func() error { return goleak.Find(running) }).Should(Succeed()) })
		group = coalesce.New[string, int]()
		DeferCleanup(func() { group.Close() })
	})

	It("does the work once for concurrent callers", func(ctx context.Context) {
		var worked, joins atomic.Int32
		begin := make(chan struct{})
		work := func(context.Context) (int, error) {
			<-begin
			return int(worked.Add(1)), nil
		}
		var started, done sync.WaitGroup
		for range 20 {
			started.Add(1)
			done.Go(func() {
				defer GinkgoRecover()
				call, joined := group.Start("key", work)
				if joined {
					joins.Add(1)
				}
				started.Done()
				Expect(call.Wait(ctx)).To(Equal(1))
			})
		}
		started.Wait()
		close(begin)
		done.Wait()
		Expect(joins.Load()).To(BeEquivalentTo(19))

		call, joined := group.Start("key", work)
		Expect(joined).To(BeFalse(), "the result is for callers that came before it")
		Expect(call.Wait(ctx)).To(Equal(2))
	})

	It("begins a new call after the running ones were forgotten", func(ctx context.Context) {
		stuck := make(chan struct{})
		first, _ := group.Start("key", func(context.Context) (int, error) {
			<-stuck
			return 1, nil
		})
		group.Forget()
		second, joined := group.Start("key", func(context.Context) (int, error) { return 2, nil })
		Expect(joined).To(BeFalse())
		Expect(second.Wait(ctx)).To(Equal(2))
		close(stuck)
		Expect(first.Wait(ctx)).To(Equal(1))
	})

	It("continues for the others when a caller has left", func(ctx context.Context) {
		begin := make(chan struct{})
		work := func(ctx context.Context) (int, error) {
			<-begin
			return 7, ctx.Err()
		}
		call, _ := group.Start("key", work)
		other, joined := group.Start("key", work)
		Expect(joined).To(BeTrue())
		gone, cancel := context.WithCancel(ctx)
		cancel()
		_, err := call.Wait(gone)
		Expect(err).To(MatchError(context.Canceled))
		close(begin)
		Expect(other.Wait(ctx)).To(Equal(7))
	})

	It("cancels work when its last caller has left, and begins other work for the next one", func(ctx context.Context) {
		ended, end := make(chan struct{}), make(chan struct{})
		gone, cancel := context.WithCancel(ctx)
		cancel()
		call, _ := group.Start("key", func(ctx context.Context) (int, error) {
			<-ctx.Done()
			close(ended)
			<-end
			return 0, ctx.Err()
		})
		_, err := call.WaitUntil(gone, time.Now().Add(time.Hour))
		Expect(err).To(MatchError(context.Canceled))
		Eventually(ctx, ended).Should(BeClosed())
		defer close(end)
		call, joined := group.Start("key", func(ctx context.Context) (int, error) { return 7, ctx.Err() })
		Expect(joined).To(BeFalse())
		Expect(call.Wait(ctx)).To(Equal(7))
	})

	DescribeTable("continues", func(ctx context.Context, start func(*coalesce.Call[int])) {
		begin, ended := make(chan struct{}), make(chan error, 1)
		call, _ := group.Start("key", func(ctx context.Context) (int, error) {
			<-begin
			ended <- ctx.Err()
			return 0, nil
		})
		start(call)
		gone, cancel := context.WithCancel(ctx)
		cancel()
		joined, _ := group.Start("key", nil)
		_, err := joined.Wait(gone)
		Expect(err).To(MatchError(context.Canceled))
		close(begin)
		Eventually(ctx, ended).Should(Receive(BeNil()))
	},
		Entry("for a caller that never waited", func(*coalesce.Call[int]) {}),
		Entry("for a caller whose deadline has passed", func(call *coalesce.Call[int]) {
			_, err := call.WaitUntil(context.Background(), time.Now())
			Expect(err).To(MatchError(context.DeadlineExceeded))
		}),
	)

	It("turns a panic into an error", func(ctx context.Context) {
		call, _ := group.Start("key", func(context.Context) (int, error) { panic("ouch") })
		_, err := call.Wait(ctx)
		Expect(err).To(MatchError("internal error: ouch"))
	})

	It("cancels work when it is closed, and starts no more", func(ctx context.Context) {
		call, _ := group.Start("key", func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		group.Close()
		_, err := call.Wait(ctx)
		Expect(err).To(MatchError(context.Canceled))
		call, _ = group.Start("key", nil)
		_, err = call.Wait(ctx)
		Expect(err).To(MatchError(coalesce.ErrClosed))
	})
})
