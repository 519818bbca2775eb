// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package limit_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/limit"
)

func TestWorkWaitsForASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		l := limit.New(1)
		release, ok := l.TryAcquire()
		g.Expect(ok).To(BeTrue())
		_, ok = l.TryAcquire()
		g.Expect(ok).To(BeFalse())

		left := errors.New("left")
		ctx, leave := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Do(ctx, func() error { return nil }) }()
		synctest.Wait()
		g.Expect(done).To(BeEmpty())
		leave(left)
		g.Expect(<-done).To(MatchError(left))

		go func() { done <- l.Do(t.Context(), func() error { return nil }) }()
		synctest.Wait()
		g.Expect(done).To(BeEmpty())
		release()
		g.Expect(<-done).To(Succeed())
		g.Expect(l.Do(ctx, func() error { return nil })).To(MatchError(left), "although there is a slot")
		g.Expect(l).To(BeEmpty())
	})
}
