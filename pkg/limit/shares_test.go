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

func TestEachKeyHasItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := NewWithT(t), limit.NewShares[string](2)
		acquire := func(key string) func() {
			release, err := s.Acquire(t.Context(), key)
			g.Expect(err).NotTo(HaveOccurred())
			return release
		}
		first, second, other := acquire("a"), acquire("a"), acquire("b")

		left := errors.New("left")
		ctx, leave := context.WithCancelCause(t.Context())
		failed, acquired := make(chan error, 1), make(chan func(), 1)
		go func() {
			_, err := s.Acquire(ctx, "a")
			failed <- err
		}()
		synctest.Wait()
		go func() { acquired <- acquire("a") }()
		synctest.Wait()
		leave(left)
		g.Expect(<-failed).To(MatchError(left))
		g.Expect(acquired).To(BeEmpty())
		first()
		third := <-acquired

		g.Expect(s.Len()).To(Equal(2))
		second()
		other()
		g.Expect(s.Len()).To(Equal(1))
		third()
		g.Expect(s.Len()).To(BeZero())
	})
}
