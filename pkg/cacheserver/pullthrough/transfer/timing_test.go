// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package transfer_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
)

const (
	grace = 10 * time.Second
	stall = time.Second
)

// bubble is a group of transfers in a bubble of package synctest. Its clock advances only when all goroutines are
// blocked, so the tests do not depend on the speed of the machine.
type bubble struct {
	Gomega
	t     *testing.T
	group *transfer.Group
	// hanging is closed while the volume hangs.
	hanging chan struct{}
}

func inBubble(t *testing.T, test func(b bubble)) {
	synctest.Test(t, func(t *testing.T) {
		hanging := make(chan struct{})
		group := transfer.NewGroup(grace, func() <-chan struct{} { return hanging })
		group.SetStall(stall)
		defer group.Close()
		test(bubble{Gomega: NewWithT(t), t: t, group: group, hanging: hanging})
	})
}

func (b bubble) source(size int) *source { return sourceIn(b.t.TempDir(), size) }

func (b bubble) start(s *source) *transfer.Reader {
	r, _, err := b.group.Start(key, "owner", s.work)
	b.Expect(err).NotTo(HaveOccurred())
	return r
}

func (b bubble) expectActive(active bool) {
	b.t.Helper()
	synctest.Wait()
	b.Expect(b.group.Active(key)).To(Equal(active))
}

func TestTransfersWithoutReadersEndAfterTheGracePeriod(t *testing.T) {
	inBubble(t, func(b bubble) {
		s := b.source(1000)
		s.steps <- 10
		b.Expect(b.start(s).Close()).To(Succeed())
		time.Sleep(grace - time.Nanosecond)
		b.expectActive(true)
		time.Sleep(time.Nanosecond)
		b.expectActive(false)
	})
}

func TestTransfersWithoutReadersContinueIfHalfIsDone(t *testing.T) {
	inBubble(t, func(b bubble) {
		s := b.source(1000)
		s.steps <- 600
		r := b.start(s)
		synctest.Wait()
		b.Expect(r.Close()).To(Succeed())
		time.Sleep(10 * grace)
		b.expectActive(true)
		close(s.steps)
		s.verified <- nil
		b.expectActive(false)
	})
}

func TestTransfersContinueIfAReaderJoinsWithinTheGracePeriod(t *testing.T) {
	inBubble(t, func(b bubble) {
		s := b.source(1000)
		s.steps <- 10
		b.Expect(b.start(s).Close()).To(Succeed())
		time.Sleep(grace - time.Nanosecond)
		second := b.group.Join(key)
		b.Expect(second).NotTo(BeNil())
		time.Sleep(10 * grace)
		close(s.steps)
		s.verified <- nil
		b.Expect(read(b.t.Context(), second, 1000)).To(Equal(s.content))
		b.Expect(second.Close()).To(Succeed())
	})
}

func TestReadersThatReadNothingAreDroppedAndBlockTheOthersOnce(t *testing.T) {
	inBubble(t, func(b bubble) {
		s := b.source(6_000_000)
		s.pass = true
		lazy, eager := b.start(s), b.start(s)
		close(s.steps)
		s.verified <- nil
		begin := time.Now()
		content, err := read(b.t.Context(), eager, len(s.content))
		b.Expect(err).NotTo(HaveOccurred())
		b.Expect(bytes.Equal(content, s.content)).To(BeTrue())
		b.Expect(time.Since(begin)).To(And(BeNumerically(">=", stall), BeNumerically("<=", 2*stall)))
		_, err = read(b.t.Context(), lazy, len(s.content))
		b.Expect(err).To(MatchError(transfer.ErrTooSlow))
		b.Expect(eager.Close()).To(Succeed())
		b.Expect(lazy.Close()).To(Succeed())
	})
}

func TestReadersThatAreStillReadingTheFileAreNotDropped(t *testing.T) {
	inBubble(t, func(b bubble) {
		s := b.source(9_000_000)
		s.fits = 8_000_000
		r := b.start(s)
		close(s.steps)
		s.verified <- nil
		c := collector{delay: stall / 100} // For each 32 KiB, so longer than the stall in total.
		_, err := r.Copy(b.t.Context(), &c, 0, int64(len(s.content)))
		b.Expect(err).NotTo(HaveOccurred())
		b.Expect(bytes.Equal(c.bytes.Bytes(), s.content)).To(BeTrue())
		b.Expect(r.Close()).To(Succeed())
	})
}

func TestTransfersContinueIfAReaderHasLeftWithAPart(t *testing.T) {
	inBubble(t, func(b bubble) {
		s := b.source(1000)
		s.steps <- 100
		r := b.start(s)
		b.Expect(r.Copy(b.t.Context(), &collector{}, 0, 100)).To(BeEquivalentTo(100))
		b.Expect(r.Close()).To(Succeed())
		time.Sleep(10 * grace)
		b.expectActive(true)
		close(s.steps)
		s.verified <- nil
		b.expectActive(false)
	})
}

func TestTransfersWithoutADiskEndEvenIfAReaderHasLeftWithAPart(t *testing.T) {
	inBubble(t, func(b bubble) {
		s := b.source(1000)
		s.pass = true
		s.steps <- 600
		r := b.start(s)
		b.Expect(r.Copy(b.t.Context(), &collector{}, 0, 600)).To(BeEquivalentTo(600))
		b.Expect(r.Close()).To(Succeed())
		time.Sleep(grace + time.Nanosecond)
		b.expectActive(false)
	})
}

func TestSlowReadersThatBlockOthersAreDropped(t *testing.T) {
	inBubble(t, func(b bubble) {
		s := b.source(6_000_000)
		s.pass = true
		slow, eager := b.start(s), b.start(s)
		close(s.steps)
		s.verified <- nil
		dropped := make(chan error, 1)
		go func() {
			_, err := slow.Copy(b.t.Context(), &collector{delay: stall / 3}, 0, int64(len(s.content))) // 96 KiB/s
			dropped <- err
		}()
		content, err := read(b.t.Context(), eager, len(s.content))
		b.Expect(err).NotTo(HaveOccurred())
		b.Expect(bytes.Equal(content, s.content)).To(BeTrue())
		b.Expect(<-dropped).To(MatchError(transfer.ErrTooSlow))
		b.Expect(eager.Close()).To(Succeed())
		b.Expect(slow.Close()).To(Succeed())
	})
}

func TestSlowReadersThatBlockNoOthersAreNotDropped(t *testing.T) {
	for _, readers := range []int{1, 2} {
		inBubble(t, func(b bubble) {
			s := b.source(1_000_000)
			s.pass = true
			var all []*transfer.Reader
			for range readers {
				all = append(all, b.start(s))
			}
			close(s.steps)
			s.verified <- nil
			c := collector{delay: stall / 2} // For each 32 KiB.
			for offset := 0; offset < len(s.content); offset += 100_000 {
				for _, r := range all {
					_, err := r.Copy(b.t.Context(), &c, int64(offset), 100_000)
					b.Expect(err).NotTo(HaveOccurred())
				}
			}
			b.Expect(c.Len()).To(Equal(readers * len(s.content)))
			for _, r := range all {
				b.Expect(r.Close()).To(Succeed())
			}
		})
	}
}

func TestReadersDoNotWaitForAVolumeThatHangs(t *testing.T) {
	inBubble(t, func(b bubble) {
		file, err := os.Create(filepath.Join(t.TempDir(), "blob"))
		b.Expect(err).NotTo(HaveOccurred())
		defer file.Close()
		returns := make(chan struct{})
		work := func(_ context.Context, tr *transfer.Transfer) error {
			tr.Begin(9, func() (*os.File, error) { return os.Open(file.Name()) })
			for _, wait := range []func(){
				func() { time.Sleep(time.Hour) }, // The upstream may take its time, which no other source would save.
				func() { <-returns },
				func() {},
			} {
				n, err := file.WriteString("abc")
				if err != nil {
					return err
				}
				tr.Advance(n)
				wait()
			}
			tr.Verified(9)
			return nil
		}
		r, _, err := b.group.Start(key, "owner", work)
		b.Expect(err).NotTo(HaveOccurred())
		defer r.Close()
		time.AfterFunc(2*time.Hour, func() { close(b.hanging) })
		began := time.Now()
		n, err := r.Copy(b.t.Context(), io.Discard, 0, 9)
		b.Expect(err).To(MatchError(transfer.ErrStuck))
		b.Expect(n).To(BeEquivalentTo(6))
		b.Expect(time.Since(began)).To(Equal(2 * time.Hour))

		late, joined, err := b.group.Start(key, "owner", work)
		b.Expect(err).NotTo(HaveOccurred())
		defer late.Close()
		b.Expect(joined).To(BeTrue())
		b.Expect(late.Copy(b.t.Context(), io.Discard, 0, 6)).To(BeEquivalentTo(6), "that are in the file already")
		_, err = late.Copy(b.t.Context(), io.Discard, 6, 3)
		b.Expect(err).To(MatchError(transfer.ErrStuck), "without another wait")
		close(returns)
		synctest.Wait()
		b.Expect(late.Copy(b.t.Context(), io.Discard, 0, 9)).To(BeEquivalentTo(9))
	})
}

func TestReadersDoNotWaitForATransferThatIsStuckWhenTheVolumeRespondsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		var volume atomic.Pointer[chan struct{}]
		responds := func() chan struct{} {
			c := make(chan struct{})
			volume.Store(&c)
			return c
		}
		hanging := responds()
		group := transfer.NewGroup(grace, func() <-chan struct{} { return *volume.Load() })
		defer group.Close()
		file, err := os.Create(filepath.Join(t.TempDir(), "blob"))
		g.Expect(err).NotTo(HaveOccurred())
		defer file.Close()
		returns := make(chan struct{})
		work := func(_ context.Context, tr *transfer.Transfer) error {
			tr.Begin(6, func() (*os.File, error) { return os.Open(file.Name()) })
			for range 2 {
				n, err := file.WriteString("abc")
				if err != nil {
					return err
				}
				tr.Advance(n)
				<-returns
			}
			tr.Verified(6)
			return nil
		}
		early, _, err := group.Start(key, "owner", work)
		g.Expect(err).NotTo(HaveOccurred())
		defer early.Close()
		g.Expect(early.Copy(t.Context(), io.Discard, 0, 3)).To(BeEquivalentTo(3))
		close(hanging)
		responds()

		_, err = early.Copy(t.Context(), io.Discard, 3, 3)
		g.Expect(err).To(MatchError(transfer.ErrStuck), "although it did not wait while the volume hung")
		other, joined, err := group.Start(key, "owner", func(_ context.Context, tr *transfer.Transfer) error {
			tr.Begin(0, nil)
			tr.Verified(0)
			return nil
		})
		g.Expect(err).NotTo(HaveOccurred())
		defer other.Close()
		g.Expect(joined).To(BeFalse())
		synctest.Wait()

		close(returns)
		synctest.Wait()
		g.Expect(early.Copy(t.Context(), io.Discard, 0, 6)).To(BeEquivalentTo(6), "since it was not stuck after all")
	})
}

func TestReadersJoinATransferThatHasAdvancedSinceTheVolumeHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		var volume atomic.Pointer[chan struct{}]
		hanging, responding := make(chan struct{}), make(chan struct{})
		volume.Store(&hanging)
		group := transfer.NewGroup(grace, func() <-chan struct{} { return *volume.Load() })
		defer group.Close()
		work := func(_ context.Context, tr *transfer.Transfer) error {
			tr.Begin(6, func() (*os.File, error) { return os.Open(os.DevNull) })
			time.Sleep(time.Minute)
			tr.Advance(3)
			time.Sleep(time.Minute)
			tr.Advance(3)
			tr.Verified(6)
			return nil
		}
		first, _, err := group.Start(key, "owner", work)
		g.Expect(err).NotTo(HaveOccurred())
		defer first.Close()
		synctest.Wait()
		close(hanging)
		volume.Store(&responding)
		time.Sleep(90 * time.Second)
		second, joined, err := group.Start(key, "owner", work)
		g.Expect(err).NotTo(HaveOccurred())
		defer second.Close()
		g.Expect(joined).To(BeTrue())
	})
}

func TestReadersOfATransferWithoutADiskDoNotNeedTheVolume(t *testing.T) {
	inBubble(t, func(b bubble) {
		close(b.hanging)
		r, _, err := b.group.Start(key, "owner", func(ctx context.Context, tr *transfer.Transfer) error {
			tr.Begin(6, nil)
			for range 2 {
				time.Sleep(time.Second)
				if err := tr.Pass(ctx, []byte("abc")); err != nil {
					return err
				}
			}
			tr.Verified(6)
			return nil
		})
		b.Expect(err).NotTo(HaveOccurred())
		defer r.Close()
		synctest.Wait() // Until it is known that there is no file.
		b.Expect(r.Copy(b.t.Context(), io.Discard, 0, 6)).To(BeEquivalentTo(6))
	})
}
