// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

// sluggish takes its time for each answer.
type sluggish struct {
	remote.Registry
	takes time.Duration
	asked int
	err   error
}

func (u *sluggish) Resolve(ctx context.Context, _, _ string) (digest.Digest, error) {
	u.asked++
	select {
	case <-time.After(u.takes):
		return "", u.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func TestSmallRequestsWaitForTheirTurnAndGiveItUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		u := &sluggish{takes: time.Minute}
		b := &bounded{Registry: u, turns: make(chan struct{}, 1), longest: 10 * time.Second, pace: &pace{}}
		running := make(chan error, 1)
		go func() {
			_, err := b.Resolve(t.Context(), "a", "b")
			running <- err
		}()
		synctest.Wait()

		left, leave := context.WithCancel(t.Context())
		waiting := make(chan error, 2)
		go func() {
			_, err := b.Resolve(left, "a", "b")
			waiting <- err
		}()
		synctest.Wait()
		leave()
		g.Expect(<-waiting).To(MatchError(context.Canceled))
		_, err := b.Resolve(left, "a", "b")
		g.Expect(err).To(MatchError(context.Canceled), "also when there is a turn")

		begun := time.Now()
		_, err = b.Resolve(t.Context(), "a", "b")
		g.Expect(err).To(MatchError(errBusy))
		g.Expect(time.Since(begun)).To(Equal(10 * time.Second))
		g.Expect(<-running).To(Succeed())
		g.Expect(u.asked).To(Equal(1))
	})
}

func TestPatienceFollowsThePaceOfTheUpstream(t *testing.T) {
	const doubtful, most = 800 * time.Millisecond, 5 * time.Second
	failed := &remote.Error{Reason: remote.Unavailable}
	for name, test := range map[string]struct {
		answers []time.Duration
		last    error
		expect  time.Duration
	}{
		"nothing known":              {nil, nil, doubtful},
		"fast":                       {[]time.Duration{time.Millisecond, 100 * time.Millisecond}, nil, doubtful},
		"slow but steady":            {[]time.Duration{1200 * time.Millisecond, time.Millisecond, 1200 * time.Millisecond}, nil, 2400 * time.Millisecond},
		"slow once":                  {[]time.Duration{2 * time.Second, time.Millisecond}, nil, doubtful},
		"slow at first":              {[]time.Duration{2 * time.Second}, nil, 4 * time.Second},
		"very slow":                  {[]time.Duration{9 * time.Second}, nil, most},
		"just failed":                {[]time.Duration{2 * time.Second}, failed, doubtful},
		"gave up by ourselves":       {[]time.Duration{2 * time.Second}, context.Canceled, 4 * time.Second},
		"does not know the manifest": {[]time.Duration{time.Second, time.Second}, &remote.Error{Reason: remote.NotFound}, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			e := &Engine{pace: &pace{}, options: Options{ValidationTimeout: most, SuspectTimeout: doubtful}}
			for _, took := range test.answers {
				e.pace.note(took, nil)
			}
			if test.last != nil {
				e.pace.note(time.Millisecond, test.last)
			}
			NewWithT(t).Expect(e.patience()).To(Equal(test.expect))
			e.options.ValidationTimeout = 100 * time.Millisecond
			NewWithT(t).Expect(e.patience()).To(Equal(100*time.Millisecond), "what is asked for is the most")
		})
	}
}

func TestPaceForgetsWhatIsLongAgo(t *testing.T) {
	p := &pace{}
	p.note(time.Minute, nil)
	p.note(time.Minute, nil)
	p.note(time.Minute, errors.New("nothing of the upstream"))
	for range paceAnswers {
		p.note(time.Second, nil)
	}
	usual, ok := p.usual()
	NewWithT(t).Expect(ok).To(BeTrue())
	NewWithT(t).Expect(usual).To(Equal(time.Second))
}

func TestPartsOfAPieceShareItsTime(t *testing.T) {
	g := NewWithT(t)
	r := &request{}
	r.took(pieceBytes/2, time.Second)
	r.took(1, time.Second)
	g.Expect(r.spent).To(Equal(2 * time.Second))
	r.took(pieceBytes/2, time.Second)
	g.Expect(r.spent).To(BeZero(), "the next piece")
	(*request)(nil).took(1, time.Second)
}
