// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package flight_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/flight"
)

const key = digest.Digest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

// source is a producer that a test drives.
type source struct {
	path    string
	content []byte
	// steps lets the producer go on by so many bytes; closing it lets it go on to the end.
	steps chan int
	// verdict is the end.
	verdict chan error
	pass    bool
	fits    int // bytes that go to the file before the rest is passed, if any
	unsized bool
}

func newSource(size int) *source {
	s := &source{
		path:    filepath.Join(GinkgoT().TempDir(), "data"),
		content: make([]byte, size),
		steps:   make(chan int, 64),
		verdict: make(chan error, 1),
	}
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(s.content)
	return s
}

func (s *source) work(ctx context.Context, f *flight.Flight) error {
	file, err := os.Create(s.path)
	if err != nil {
		return err
	}
	defer file.Close()
	size := int64(len(s.content))
	if s.unsized {
		size = flight.Unknown
	}
	f.Begin(size, func() (*os.File, error) { return os.Open(s.path) })
	for offset := 0; offset < len(s.content); {
		n := 100_000
		select {
		case step, ok := <-s.steps:
			if ok {
				n = step
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		n = min(n, len(s.content)-offset)
		part := s.content[offset : offset+n]
		offset += n
		if s.pass || s.fits > 0 && offset > s.fits {
			if err := f.Pass(ctx, part); err != nil {
				return err
			}
			continue
		}
		if _, err := file.Write(part); err != nil {
			return err
		}
		f.Advance(n)
	}
	select {
	case err := <-s.verdict:
		if err == nil {
			f.Verified(int64(len(s.content)))
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// collector is a client that can be slow.
type collector struct {
	mu    sync.Mutex
	bytes bytes.Buffer
	delay time.Duration
}

func (c *collector) Write(p []byte) (int, error) {
	time.Sleep(c.delay)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes.Write(p)
}

func (c *collector) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes.Len()
}

// openFiles are the files that this process holds open.
func openFiles() []string {
	GinkgoHelper()
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	Expect(err).NotTo(HaveOccurred())
	var files []string
	for _, entry := range entries {
		if file, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil {
			files = append(files, file)
		}
	}
	return files
}

func read(ctx context.Context, r *flight.Reader, n int) ([]byte, error) {
	var c collector
	_, err := r.Copy(ctx, &c, 0, int64(n))
	return c.bytes.Bytes(), err
}

var _ = Describe("Flight", func() {
	var group *flight.Group

	BeforeEach(func() {
		running := goleak.IgnoreCurrent()
		DeferCleanup(func() { Expect(goleak.Find(running)).To(Succeed()) })
		group = flight.NewGroup(50 * time.Millisecond)
		DeferCleanup(func() { group.Close() })
	})

	start := func(s *source) *flight.Reader {
		GinkgoHelper()
		r, _, err := group.Start(key, "owner", s.work)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(r.Close)
		return r
	}

	It("serves early and late readers from one production", func(ctx context.Context) {
		s := newSource(3_000_000)
		first := start(s)
		var done sync.WaitGroup
		for i := range 16 {
			r := first
			if i > 0 {
				r = start(s)
			}
			done.Go(func() {
				defer GinkgoRecover()
				content, err := read(ctx, r, len(s.content))
				Expect(err).NotTo(HaveOccurred())
				Expect(bytes.Equal(content, s.content)).To(BeTrue())
			})
			if i%4 == 0 {
				s.steps <- 500_000
			}
		}
		close(s.steps)
		s.verdict <- nil
		done.Wait()
	})

	DescribeTable("keeps what it brought for a reader that has joined, and no longer", func(ctx context.Context, fits int) {
		s := newSource(400_000)
		s.fits = fits
		reader, idle := start(s), start(s)
		close(s.steps)
		s.verdict <- nil
		Eventually(group.Active).WithArguments(key).Should(BeFalse())
		Expect(os.Remove(s.path)).To(Succeed()) // as when it cannot be stored
		content, err := read(ctx, reader, len(s.content))
		Expect(err).NotTo(HaveOccurred())
		Expect(bytes.Equal(content, s.content)).To(BeTrue())
		Expect(reader.Close()).To(Succeed())
		Expect(idle.Close()).To(Succeed())
		Expect(openFiles()).NotTo(ContainElement(HavePrefix(s.path)))
	},
		Entry("in the file", 0),
		Entry("in the file and the window", 100_000),
	)

	DescribeTable("holds back the last byte until the verdict, and for good if that is bad", func(ctx context.Context, pass, unsized bool) {
		s := newSource(200_000)
		s.pass, s.unsized = pass, unsized
		close(s.steps)
		r := start(s)
		var c collector
		failed := make(chan error, 1)
		go func() {
			n := int64(len(s.content))
			if unsized {
				n = flight.Unknown
			}
			_, err := r.Copy(ctx, &c, 0, n)
			failed <- err
		}()
		Eventually(c.Len).Should(BeNumerically(">=", len(s.content)-1))
		wrong := errors.New("wrong")
		s.verdict <- wrong
		Expect(<-failed).To(MatchError(wrong))
		if !unsized {
			Expect(c.Len()).To(Equal(len(s.content) - 1))
		}
	},
		Entry("from the file", false, false),
		Entry("from memory", true, false),
		Entry("of unknown size", false, true),
	)

	DescribeTable("delivers a part that ends before the last byte as soon as it is there", func(ctx context.Context, pass bool) {
		s := newSource(200_000)
		s.pass = pass
		close(s.steps)
		r := start(s)
		var c collector
		Expect(r.Copy(ctx, &c, 50, 100)).To(BeEquivalentTo(100))
		Expect(r.Copy(ctx, &c, 199_900, 99)).To(BeEquivalentTo(99))
		Expect(c.bytes.Bytes()).To(Equal(append(bytes.Clone(s.content[50:150]), s.content[199_900:199_999]...)))

		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		_, err := r.Copy(short, &c, 199_999, 1)
		Expect(err).To(MatchError(context.DeadlineExceeded), "the object's own last byte")
		s.verdict <- nil
		Expect(r.Copy(ctx, &c, 199_999, 1)).To(BeEquivalentTo(1))
	},
		Entry("from the file", false),
		Entry("from memory", true),
	)

	It("is not held up by a reader of a part when there is no disk", func(ctx context.Context) {
		s := newSource(3_000_000)
		s.pass = true
		part, whole := start(s), start(s)
		close(s.steps)
		s.verdict <- nil
		Expect(part.Copy(ctx, &collector{}, 0, 100)).To(BeEquivalentTo(100))
		Expect(part.Close()).To(Succeed())
		content, err := read(ctx, whole, len(s.content))
		Expect(err).NotTo(HaveOccurred())
		Expect(bytes.Equal(content, s.content)).To(BeTrue())
	}, SpecTimeout(5*time.Second))

	It("does not keep readers waiting for what happens after the verdict", func(ctx context.Context) {
		committed := make(chan struct{})
		r, _, err := group.Start(key, "owner", func(context.Context, *flight.Flight) error { return nil })
		Expect(err).NotTo(HaveOccurred())
		_, err = r.Size(ctx)
		Expect(err).To(MatchError(ContainSubstring("unverified")))
		Expect(r.Close()).To(Succeed())

		s := newSource(10)
		close(s.steps)
		s.verdict <- nil
		r, _, err = group.Start(key, "owner", func(ctx context.Context, f *flight.Flight) error {
			defer func() { <-committed }()
			return s.work(ctx, f)
		})
		Expect(err).NotTo(HaveOccurred())
		defer r.Close()
		Expect(read(ctx, r, 10)).To(Equal(s.content))
		late := group.Join(key)
		Expect(late).NotTo(BeNil(), "whoever comes before the end joins")
		defer late.Close()
		Expect(read(ctx, late, 10)).To(Equal(s.content))
		close(committed)
		Eventually(group.Active).WithArguments(key).Should(BeFalse())
	})

	Context("when nobody waits", func() {
		It("is abandoned after the grace period", func() {
			s := newSource(1000)
			s.steps <- 10
			r, _, err := group.Start(key, "owner", s.work)
			Expect(err).NotTo(HaveOccurred())
			Expect(r.Close()).To(Succeed())
			Eventually(group.Active).WithArguments(key).Should(BeFalse())
		})

		It("is not joined any more while it ends", func(ctx context.Context) {
			abandoned, end := make(chan struct{}), make(chan struct{})
			defer close(end)
			r, _, err := group.Start(key, "owner", func(ctx context.Context, _ *flight.Flight) error {
				<-ctx.Done()
				close(abandoned)
				<-end
				return ctx.Err()
			})
			Expect(err).NotTo(HaveOccurred())
			Expect(r.Close()).To(Succeed())
			<-abandoned
			Expect(group.Join(key)).To(BeNil())
			s := newSource(100)
			close(s.steps)
			s.verdict <- nil
			Expect(read(ctx, start(s), 100)).To(Equal(s.content))
		})

		It("is abandoned if its readers left before it began, and not joined then", func(ctx context.Context) {
			turn := make(chan struct{})
			work := func(_ context.Context, f *flight.Flight) error {
				<-turn
				if !f.Wanted() {
					<-turn
					return flight.ErrAbandoned
				}
				f.Begin(0, nil)
				f.Verified(0)
				return nil
			}
			r, _, err := group.Start(key, "owner", work)
			Expect(err).NotTo(HaveOccurred())
			Expect(r.Close()).To(Succeed())
			turn <- struct{}{}
			Eventually(func() bool {
				r, joined, err := group.Start(key, "owner", func(context.Context, *flight.Flight) error { return nil })
				Expect(err).NotTo(HaveOccurred())
				Expect(r.Close()).To(Succeed())
				return joined
			}).Should(BeFalse())
			close(turn)

			r, _, err = group.Start("sha256:other", "owner", work)
			Expect(err).NotTo(HaveOccurred())
			defer r.Close()
			Expect(r.Settled(ctx)).To(BeZero())
		})

		It("goes on if half is done", func(ctx context.Context) {
			s := newSource(1000)
			s.steps <- 600
			r, _, err := group.Start(key, "owner", s.work)
			Expect(err).NotTo(HaveOccurred())
			var c collector
			short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			_, err = r.Copy(short, &c, 0, 700)
			Expect(err).To(MatchError(context.DeadlineExceeded))
			Expect(c.Len()).To(Equal(600))
			Expect(r.Close()).To(Succeed())
			Consistently(group.Active).WithArguments(key).WithTimeout(200 * time.Millisecond).Should(BeTrue())
			close(s.steps)
			s.verdict <- nil
			Eventually(group.Active).WithArguments(key).Should(BeFalse())
		})

		It("goes on if a reader has left with the part that it wanted", func(ctx context.Context) {
			s := newSource(1000)
			s.steps <- 100
			r, _, err := group.Start(key, "owner", s.work)
			Expect(err).NotTo(HaveOccurred())
			Expect(r.Copy(ctx, &collector{}, 0, 100)).To(BeEquivalentTo(100))
			Expect(r.Close()).To(Succeed())
			Consistently(group.Active).WithArguments(key).WithTimeout(200 * time.Millisecond).Should(BeTrue())
			close(s.steps)
			s.verdict <- nil
			Eventually(group.Active).WithArguments(key).Should(BeFalse())
		})

		It("is abandoned without a disk, whatever a reader has left with", func(ctx context.Context) {
			s := newSource(1000)
			s.pass = true
			s.steps <- 600
			r, _, err := group.Start(key, "owner", s.work)
			Expect(err).NotTo(HaveOccurred())
			Expect(r.Copy(ctx, &collector{}, 0, 600)).To(BeEquivalentTo(600))
			Expect(r.Close()).To(Succeed())
			Eventually(group.Active).WithArguments(key).Should(BeFalse())
		})

		It("goes on if somebody comes within the grace period", func(ctx context.Context) {
			s := newSource(1000)
			s.steps <- 10
			r, _, err := group.Start(key, "owner", s.work)
			Expect(err).NotTo(HaveOccurred())
			Expect(r.Close()).To(Succeed())
			second := group.Join(key)
			Expect(second).NotTo(BeNil())
			defer second.Close()
			time.Sleep(100 * time.Millisecond)
			close(s.steps)
			s.verdict <- nil
			Expect(read(ctx, second, 1000)).To(Equal(s.content))
		})
	})

	Context("without a disk", func() {
		It("streams more than fits into the window to readers of any pace", func(ctx context.Context) {
			s := newSource(3_000_000)
			s.pass = true
			readers := []*flight.Reader{start(s), start(s), start(s)}
			close(s.steps)
			s.verdict <- nil
			var done sync.WaitGroup
			for i, r := range readers {
				done.Go(func() {
					defer GinkgoRecover()
					c := collector{delay: time.Duration(i) * 500 * time.Microsecond}
					_, err := r.Copy(ctx, &c, 0, int64(len(s.content)))
					Expect(err).NotTo(HaveOccurred())
					Expect(bytes.Equal(c.bytes.Bytes(), s.content)).To(BeTrue())
				})
			}
			done.Wait()
		})

		DescribeTable("drops a reader that holds up the others", func(ctx context.Context, delay time.Duration) {
			group.SetStall(500 * time.Millisecond)
			s := newSource(3_000_000)
			s.pass = true
			slow, eager := start(s), start(s)
			close(s.steps)
			s.verdict <- nil
			var done sync.WaitGroup
			done.Go(func() {
				defer GinkgoRecover()
				if delay > 0 {
					_, err := slow.Copy(ctx, &collector{delay: delay}, 0, int64(len(s.content)))
					Expect(err).To(MatchError(flight.ErrTooSlow))
				}
			})
			content, err := read(ctx, eager, len(s.content))
			Expect(err).NotTo(HaveOccurred())
			Expect(bytes.Equal(content, s.content)).To(BeTrue())
			done.Wait()
			_, err = read(ctx, slow, len(s.content))
			Expect(err).To(MatchError(flight.ErrTooSlow))
		},
			Entry("and takes nothing", SpecTimeout(15*time.Second), time.Duration(0)),
			Entry("and takes little at a time", SpecTimeout(15*time.Second), 200*time.Millisecond), // 160 KiB/s
		)

		DescribeTable("does not drop slow readers that hold up no others", func(ctx context.Context, readers int) {
			group.SetStall(100 * time.Millisecond)
			s := newSource(1_000_000)
			s.pass = true
			var all []*flight.Reader
			for range readers {
				all = append(all, start(s))
			}
			close(s.steps)
			s.verdict <- nil
			c := collector{delay: 50 * time.Millisecond} // for each 32 KiB
			for offset := 0; offset < len(s.content); offset += 100_000 {
				for _, r := range all {
					_, err := r.Copy(ctx, &c, int64(offset), 100_000)
					Expect(err).NotTo(HaveOccurred())
				}
			}
			Expect(c.Len()).To(Equal(readers * len(s.content)))
		},
			Entry("one", SpecTimeout(20*time.Second), 1),
			Entry("two of a pace", SpecTimeout(20*time.Second), 2),
		)

		It("waits for a reader that goes on through what the disk took before it was full", func(ctx context.Context) {
			group.SetStall(time.Second)
			s := newSource(9_000_000)
			s.fits = 8_000_000
			r, other := start(s), start(s)
			close(s.steps)
			s.verdict <- nil
			var done sync.WaitGroup
			done.Go(func() {
				defer GinkgoRecover()
				Expect(other.Copy(ctx, io.Discard, 0, int64(len(s.content)))).To(BeEquivalentTo(len(s.content)))
			})
			c := collector{delay: 5 * time.Millisecond} // for each 32 KiB, so longer than the stall altogether
			_, err := r.Copy(ctx, &c, 0, int64(len(s.content)))
			Expect(err).NotTo(HaveOccurred())
			Expect(bytes.Equal(c.bytes.Bytes(), s.content)).To(BeTrue())
			done.Wait()
		})

		It("begins another flight for who comes too late", func(ctx context.Context) {
			s := newSource(1_500_000)
			s.pass = true
			r := start(s)
			s.steps <- 400_000
			s.steps <- 400_000
			short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			defer cancel()
			Expect(r.Copy(short, io.Discard, 0, 790_000)).To(BeEquivalentTo(790_000))
			Expect(group.Join(key)).To(BeNil())
			other := newSource(100)
			close(other.steps)
			other.verdict <- nil
			late := start(other)
			Expect(read(ctx, late, 100)).To(Equal(other.content))
		})
	})

	It("ends with its group, and so do its readers", func(ctx context.Context) {
		s := newSource(1000)
		r := start(s)
		failed := make(chan error, 1)
		go func() {
			_, err := read(ctx, r, 1000)
			failed <- err
		}()
		group.Close()
		Expect(<-failed).To(MatchError(flight.ErrClosed))
		_, _, err := group.Start(key, "owner", s.work)
		Expect(err).To(MatchError(flight.ErrClosed))
	})

	It("survives a panic of its producer", func(ctx context.Context) {
		r, _, err := group.Start(key, "owner", func(context.Context, *flight.Flight) error { panic("ouch") })
		Expect(err).NotTo(HaveOccurred())
		defer r.Close()
		_, err = r.Size(ctx)
		Expect(err).To(MatchError("internal error: ouch"))
	})
})
