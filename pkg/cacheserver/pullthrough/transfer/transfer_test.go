// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
)

const key = digest.Digest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

// source is a producer that a test controls.
type source struct {
	path    string
	content []byte
	// steps lets the producer continue for that many bytes; closing it lets it continue to the end.
	steps chan int
	// verified is the result of the verification.
	verified chan error
	pass     bool
	fits     int // If not 0, the number of bytes that go to the file before the rest is passed.
	unsized  bool
}

func newSource(size int) *source { return sourceIn(GinkgoT().TempDir(), size) }

func sourceIn(dir string, size int) *source {
	s := &source{
		path:     filepath.Join(dir, "data"),
		content:  make([]byte, size),
		steps:    make(chan int, 64),
		verified: make(chan error, 1),
	}
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(s.content)
	return s
}

func (s *source) work(ctx context.Context, t *transfer.Transfer) error {
	file, err := os.Create(s.path)
	if err != nil {
		return err
	}
	defer file.Close()
	size := int64(len(s.content))
	if s.unsized {
		size = transfer.Unknown
	}
	t.Begin(size, func() (*os.File, error) { return os.Open(s.path) })
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
			if err := t.Pass(ctx, part); err != nil {
				return err
			}
			continue
		}
		if _, err := file.Write(part); err != nil {
			return err
		}
		t.Advance(n)
	}
	select {
	case err := <-s.verified:
		if err == nil {
			t.Verified(int64(len(s.content)))
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

// openFiles returns the files that this process has open.
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

func read(ctx context.Context, r *transfer.Reader, n int) ([]byte, error) {
	var c collector
	_, err := r.Copy(ctx, &c, 0, int64(n))
	return c.bytes.Bytes(), err
}

var _ = Describe("Transfer", func() {
	var group *transfer.Group

	BeforeEach(func() {
		running := goleak.IgnoreCurrent()
		DeferCleanup(func() { Eventually(func() error { return goleak.Find(running) }).Should(Succeed()) })
		group = transfer.NewGroup(50*time.Millisecond, nil)
		DeferCleanup(func() { group.Close() })
	})

	start := func(s *source) *transfer.Reader {
		GinkgoHelper()
		r, _, err := group.Start(key, "owner", s.work)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(r.Close)
		return r
	}

	It("serves early and late readers from one transfer", func(ctx context.Context) {
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
		s.verified <- nil
		done.Wait()
	})

	DescribeTable("keeps its content for readers that have joined, and closes the file after the last one", func(ctx context.Context, fits int) {
		s := newSource(400_000)
		s.fits = fits
		reader, idle := start(s), start(s)
		close(s.steps)
		s.verified <- nil
		Eventually(group.Active).WithArguments(key).Should(BeFalse())
		Expect(os.Remove(s.path)).To(Succeed()) // As if it could not be stored.
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

	DescribeTable("holds back the last byte until the object is verified, and forever if it is corrupt", func(ctx context.Context, pass, unsized bool) {
		s := newSource(200_000)
		s.pass, s.unsized = pass, unsized
		close(s.steps)
		r := start(s)
		var c collector
		failed := make(chan error, 1)
		go func() {
			n := int64(len(s.content))
			if unsized {
				n = transfer.Unknown
			}
			_, err := r.Copy(ctx, &c, 0, n)
			failed <- err
		}()
		Eventually(c.Len).Should(BeNumerically(">=", len(s.content)-1))
		wrong := errors.New("wrong")
		s.verified <- wrong
		Expect(<-failed).To(MatchError(wrong))
		if !unsized {
			Expect(c.Len()).To(Equal(len(s.content) - 1))
		}
	},
		Entry("from the file", false, false),
		Entry("from memory", true, false),
		Entry("of unknown size", false, true),
	)

	DescribeTable("delivers a part that ends before the last byte as soon as it has arrived", func(ctx context.Context, pass bool) {
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
		Expect(err).To(MatchError(context.DeadlineExceeded), "the last byte of the object")
		s.verified <- nil
		Expect(r.Copy(ctx, &c, 199_999, 1)).To(BeEquivalentTo(1))
	},
		Entry("from the file", false),
		Entry("from memory", true),
	)

	It("is not blocked by a reader of a part if there is no disk", func(ctx context.Context) {
		s := newSource(3_000_000)
		s.pass = true
		part, whole := start(s), start(s)
		close(s.steps)
		s.verified <- nil
		Expect(part.Copy(ctx, &collector{}, 0, 100)).To(BeEquivalentTo(100))
		Expect(part.Close()).To(Succeed())
		content, err := read(ctx, whole, len(s.content))
		Expect(err).NotTo(HaveOccurred())
		Expect(bytes.Equal(content, s.content)).To(BeTrue())
	})

	It("does not make readers wait for the work after the verification", func(ctx context.Context) {
		committed := make(chan struct{})
		r, _, err := group.Start(key, "owner", func(context.Context, *transfer.Transfer) error { return nil })
		Expect(err).NotTo(HaveOccurred())
		_, err = r.WaitSize(ctx)
		Expect(err).To(MatchError(ContainSubstring("unverified")))
		Expect(r.Close()).To(Succeed())

		s := newSource(10)
		close(s.steps)
		s.verified <- nil
		r, _, err = group.Start(key, "owner", func(ctx context.Context, t *transfer.Transfer) error {
			defer func() { <-committed }()
			return s.work(ctx, t)
		})
		Expect(err).NotTo(HaveOccurred())
		defer r.Close()
		Expect(read(ctx, r, 10)).To(Equal(s.content))
		late := group.Join(key)
		Expect(late).NotTo(BeNil(), "readers can join until the end")
		defer late.Close()
		Expect(read(ctx, late, 10)).To(Equal(s.content))
		close(committed)
		Eventually(group.Active).WithArguments(key).Should(BeFalse())
	})

	It("is abandoned if its readers left before it began, and cannot be joined then", func(ctx context.Context) {
		turn := make(chan struct{})
		work := func(_ context.Context, t *transfer.Transfer) error {
			<-turn
			if !t.Wanted() {
				<-turn
				return transfer.ErrAbandoned
			}
			t.Begin(0, nil)
			t.Verified(0)
			return nil
		}
		r, _, err := group.Start(key, "owner", work)
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Close()).To(Succeed())
		turn <- struct{}{}
		Eventually(func() bool {
			r, joined, err := group.Start(key, "owner", func(context.Context, *transfer.Transfer) error { return nil })
			Expect(err).NotTo(HaveOccurred())
			Expect(r.Close()).To(Succeed())
			return joined
		}).Should(BeFalse())
		close(turn)

		r, _, err = group.Start("sha256:other", "owner", work)
		Expect(err).NotTo(HaveOccurred())
		defer r.Close()
		Expect(r.WaitVerified(ctx)).To(BeZero())
	})

	It("cannot be joined while it ends for lack of readers", func(ctx context.Context) {
		abandoned, end := make(chan struct{}), make(chan struct{})
		defer close(end)
		r, _, err := group.Start(key, "owner", func(ctx context.Context, _ *transfer.Transfer) error {
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
		s.verified <- nil
		Expect(read(ctx, start(s), 100)).To(Equal(s.content))
	})

	Context("without a disk", func() {
		It("streams more than the window to readers of different speeds", func(ctx context.Context) {
			s := newSource(3_000_000)
			s.pass = true
			readers := []*transfer.Reader{start(s), start(s), start(s)}
			close(s.steps)
			s.verified <- nil
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

		It("starts a new transfer for a reader that joins after the window has moved on", func(ctx context.Context) {
			s := newSource(1_500_000)
			s.pass = true
			r := start(s)
			s.steps <- 400_000
			s.steps <- 400_000
			var c collector
			reading, stop := context.WithCancel(ctx)
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				_, _ = r.Copy(reading, &c, 0, 790_000)
			}()
			Eventually(c.Len).Should(Equal(790_000))
			stop()
			<-stopped
			Expect(group.Join(key)).To(BeNil())
			other := newSource(100)
			close(other.steps)
			other.verified <- nil
			late := start(other)
			Expect(read(ctx, late, 100)).To(Equal(other.content))
		})
	})

	It("ends with its group and ends its readers", func(ctx context.Context) {
		s := newSource(1000)
		r := start(s)
		failed := make(chan error, 1)
		go func() {
			_, err := read(ctx, r, 1000)
			failed <- err
		}()
		group.Close()
		Expect(<-failed).To(MatchError(transfer.ErrClosed))
		_, _, err := group.Start(key, "owner", s.work)
		Expect(err).To(MatchError(transfer.ErrClosed))
	})

	It("returns a panic of its producer as an error", func(ctx context.Context) {
		r, _, err := group.Start(key, "owner", func(context.Context, *transfer.Transfer) error { panic("ouch") })
		Expect(err).NotTo(HaveOccurred())
		defer r.Close()
		_, err = r.WaitSize(ctx)
		Expect(err).To(MatchError("internal error: ouch"))
	})
})
