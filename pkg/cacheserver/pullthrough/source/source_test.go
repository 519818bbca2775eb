// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/limit"
)

// slowRegistry takes its time for each response.
type slowRegistry struct {
	remote.Registry
	takes    time.Duration
	requests int
}

// Resolve implements remote.Registry.
func (r *slowRegistry) Resolve(ctx context.Context, _, _ string) (digest.Digest, error) {
	r.requests++
	select {
	case <-time.After(r.takes):
		return "", nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func TestRequestStopsWaitingForASlotWhenItsClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		registry := &slowRegistry{takes: time.Minute}
		s := New(Options{Registry: registry, MaxWait: 10 * time.Second})
		s.slots = limit.New(1)
		running := make(chan error, 1)
		go func() {
			_, err := s.Resolve(t.Context(), "a", "b")
			running <- err
		}()
		synctest.Wait()

		left, leave := context.WithCancel(t.Context())
		waiting := make(chan error, 1)
		go func() {
			_, err := s.Resolve(left, "a", "b")
			waiting <- err
		}()
		synctest.Wait()
		leave()
		g.Expect(<-waiting).To(MatchError(context.Canceled))

		begun := time.Now()
		_, err := s.Resolve(t.Context(), "a", "b")
		g.Expect(err).To(MatchError(limit.ErrBusy))
		g.Expect(time.Since(begun)).To(Equal(10 * time.Second))
		g.Expect(<-running).To(Succeed())
		_, err = s.Resolve(left, "a", "b")
		g.Expect(err).To(MatchError(context.Canceled), "although there is a slot")
		g.Expect(registry.requests).To(Equal(1))
	})
}

func TestValidationTimeoutFollowsTheLatencyOfTheUpstream(t *testing.T) {
	const suspect, most = 800 * time.Millisecond, 5 * time.Second
	failed := &remote.Error{Reason: remote.Unavailable}
	for name, test := range map[string]struct {
		took     []time.Duration
		last     error
		expected time.Duration
	}{
		"unknown":             {nil, nil, suspect},
		"fast":                {[]time.Duration{time.Millisecond, 100 * time.Millisecond}, nil, suspect},
		"slow but steady":     {[]time.Duration{1200 * time.Millisecond, time.Millisecond, 1200 * time.Millisecond}, nil, 2400 * time.Millisecond},
		"slow once":           {[]time.Duration{2 * time.Second, time.Millisecond}, nil, suspect},
		"slow at first":       {[]time.Duration{2 * time.Second}, nil, 4 * time.Second},
		"very slow":           {[]time.Duration{9 * time.Second}, nil, most},
		"just failed":         {[]time.Duration{2 * time.Second}, failed, suspect},
		"canceled by us":      {[]time.Duration{2 * time.Second}, context.Canceled, 4 * time.Second},
		"manifests not found": {[]time.Duration{time.Second, time.Second}, &remote.Error{Reason: remote.NotFound}, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			s := New(Options{ValidationTimeout: most, SuspectTimeout: suspect})
			for _, took := range test.took {
				s.latency.record(took, nil)
			}
			if test.last != nil {
				s.latency.record(time.Millisecond, test.last)
			}
			g.Expect(s.ValidationTimeout()).To(Equal(test.expected))
			s.options.ValidationTimeout = 100 * time.Millisecond
			g.Expect(s.ValidationTimeout()).To(Equal(100*time.Millisecond), "the option is the maximum")
		})
	}
}

func TestLatencyForgetsOldSamples(t *testing.T) {
	g := NewWithT(t)
	var l latency
	l.record(time.Minute, nil)
	l.record(time.Minute, nil)
	l.record(time.Minute, errors.New("no error of the upstream"))
	for range latencySamples {
		l.record(time.Second, nil)
	}
	usual, ok := l.usual()
	g.Expect(ok).To(BeTrue())
	g.Expect(usual).To(Equal(time.Second))
}
