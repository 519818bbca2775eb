// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

const patience = 800 * time.Millisecond

func resolve(b bubble) (waited time.Duration, digest string) {
	b.t.Helper()
	begin := time.Now()
	d, err := b.engine.resolve(b.t.Context(), "library/app", "v1")
	b.Expect(err).NotTo(HaveOccurred())
	return time.Since(begin), d.String()
}

func TestTagsLeadToWhereTheyDidWhenTheUpstreamTakesTooLong(t *testing.T) {
	inBubble(t, func(o *Options) { o.ValidationTimeout = patience }, func(b bubble) {
		first := b.upstream.push("first")
		_, d := resolve(b)
		b.Expect(d).To(Equal(first.String()))
		second := b.upstream.push("second")

		b.upstream.take(time.Hour, 0)
		waited, d := resolve(b)
		b.Expect(d).To(Equal(first.String()))
		b.Expect(waited).To(Equal(patience))
		waited, d = resolve(b)
		b.Expect(d).To(Equal(first.String()))
		b.Expect(waited).To(BeZero(), "who comes while the upstream takes too long does not wait")

		time.Sleep(time.Hour)
		b.upstream.take(patience-1, 0)
		waited, d = resolve(b)
		b.Expect(d).To(Equal(second.String()))
		b.Expect(waited).To(BeNumerically("<", patience))
	})
}

func TestTagsThatMoveAreFollowedForLongerThanTheUpstreamMayTakeToSaySo(t *testing.T) {
	inBubble(t, func(o *Options) { o.ValidationTimeout = patience }, func(b bubble) {
		first := b.upstream.push("first")
		_, d := resolve(b)
		b.Expect(d).To(Equal(first.String()))

		second := b.upstream.push("second")
		b.upstream.take(patience-1, movePatience-1)
		waited, d := resolve(b)
		b.Expect(d).To(Equal(second.String()))
		b.Expect(waited).To(Equal(patience - 1 + movePatience - 1))

		b.upstream.push("third")
		b.upstream.take(patience-1, time.Hour)
		waited, d = resolve(b)
		b.Expect(d).To(Equal(second.String()), "a cached image is better than none")
		b.Expect(waited).To(Equal(patience - 1 + movePatience))
	})
}
