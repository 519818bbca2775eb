// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package coalesce_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
)

func TestAnEarlyResultIsSharedAndTheNextCallerBeginsAnotherCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		group := coalesce.New[string, int]()
		defer group.Close()
		finish := make(chan struct{})
		work := func(ctx context.Context, publish func(int)) (int, error) {
			time.Sleep(time.Second)
			publish(1)
			select {
			case <-finish:
				return 2, nil
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			}
		}
		first, joined := group.StartStaged("key", work)
		g.Expect(joined).To(BeFalse())
		second, joined := group.StartStaged("key", work)
		g.Expect(joined).To(BeTrue())
		g.Expect(second.WaitEarlyUntil(t.Context(), time.Now().Add(time.Hour))).To(Equal(1))

		third, joined := group.StartStaged("key", work)
		g.Expect(joined).To(BeFalse())
		for _, call := range []*coalesce.Call[int]{first, second} {
			_, err := call.WaitUntil(t.Context(), time.Now().Add(time.Minute))
			g.Expect(err).To(MatchError(context.DeadlineExceeded))
		}
		left, leave := context.WithCancel(t.Context())
		leave()
		for _, call := range []*coalesce.Call[int]{first, second} {
			_, err := call.Wait(left)
			g.Expect(err).To(MatchError(context.Canceled))
		}
		close(finish)
		g.Expect(first.Wait(t.Context())).To(Equal(2), "the work goes on when its callers have left")
		g.Expect(third.WaitEarlyUntil(t.Context(), time.Now().Add(time.Minute))).To(Equal(1))
		g.Expect(third.Wait(t.Context())).To(Equal(2))
	})
}

func TestTheFinalResultIsTheEarlyOneIfNoneIsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		group := coalesce.New[string, int]()
		defer group.Close()
		failed := errors.New("failed")
		call, _ := group.StartStaged("key", func(context.Context, func(int)) (int, error) { return 0, failed })
		_, err := call.WaitEarlyUntil(t.Context(), time.Now().Add(time.Hour))
		g.Expect(err).To(MatchError(failed))
		_, err = call.Wait(t.Context())
		g.Expect(err).To(MatchError(failed))

		call, _ = group.StartStaged("key", func(context.Context, func(int)) (int, error) { panic("bug") })
		_, err = call.WaitEarlyUntil(t.Context(), time.Now().Add(time.Hour))
		g.Expect(err).To(MatchError(ContainSubstring("bug")))
	})
}

func TestWorkIsCancelledBeforeItsEarlyResultWhenAllCallersHaveLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		group := coalesce.New[string, int]()
		defer group.Close()
		ended := make(chan error, 1)
		call, _ := group.StartStaged("key", func(ctx context.Context, _ func(int)) (int, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return 0, ctx.Err()
		})
		left, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		_, err := call.WaitEarlyUntil(left, time.Now().Add(time.Hour))
		g.Expect(err).To(MatchError(context.DeadlineExceeded))
		g.Expect(<-ended).To(MatchError(context.Canceled))
	})
}
