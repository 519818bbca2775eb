// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
)

func TestFetchesWaitForTheirTurnAsLongAsClientsDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		e := &Engine{fetches: make(chan struct{}, 1)}
		running := &download{engine: e}
		g.Expect(running.take(t.Context(), e.fetches)).To(Succeed())

		taken := make(chan error, maxWaiting)
		herd, leave := context.WithCancelCause(t.Context())
		for range maxWaiting - 1 {
			go func() { taken <- (&download{engine: e}).take(herd, e.fetches) }()
		}
		synctest.Wait()
		patient := &download{engine: e}
		go func() { taken <- patient.take(t.Context(), e.fetches) }()
		select {
		case err := <-taken:
			t.Fatalf("a fetch no longer waits: %v", err)
		case <-time.After(time.Hour): // Of the bubble's time, which passes when there is nothing else to do.
		}
		g.Expect((&download{engine: e}).take(t.Context(), e.fetches)).To(MatchError(errBusy), "the queue is full")

		leave(context.Canceled)
		for range maxWaiting - 1 {
			g.Expect(<-taken).To(MatchError(context.Canceled))
		}
		running.release()
		g.Expect(<-taken).To(Succeed())
		patient.release()
		g.Expect(e.fetches).To(BeEmpty())
		g.Expect(e.waiting.Load()).To(BeZero())
	})
}
