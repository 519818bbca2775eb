// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"context"
	"io"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
)

// stalling is a body that stops after some bytes.
type stalling struct {
	io.Reader
	ctx context.Context
}

func (s stalling) Read(p []byte) (int, error) {
	if n, err := s.Reader.Read(p); err == nil {
		return n, nil
	}
	<-s.ctx.Done()
	return 0, context.Cause(s.ctx)
}

func (stalling) Close() error { return nil }

func TestStalledBody(t *testing.T) {
	for name, c := range map[string]struct {
		arrives   int
		resumable bool
		idle      time.Duration
		expected  time.Duration
	}{
		"ends soon if it was flowing and can be resumed": {flowing, true, 30 * time.Second, 5 * time.Second},
		"ends late if it would have to begin again":      {flowing, false, 30 * time.Second, 30 * time.Second},
		"ends late if it has hardly begun":               {flowing - 1, true, 30 * time.Second, 30 * time.Second},
		"never outlasts the configured timeout":          {flowing, true, time.Second, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := NewWithT(t)
				ctx, cancel := context.WithCancelCause(t.Context())
				client := &Client{base: &url.URL{}, timeouts: Timeouts{Idle: c.idle}, now: time.Now}
				body := newTimedBody(client, stalling{bytes.NewReader(make([]byte, c.arrives)), ctx}, c.resumable, cancel)
				defer body.Close()
				began := time.Now()
				n, err := io.Copy(io.Discard, body)
				g.Expect(err).To(MatchError(ContainSubstring("stopped sending")))
				g.Expect(err).To(HaveField("Patience", c.idle-c.expected))
				g.Expect(n).To(BeEquivalentTo(c.arrives))
				g.Expect(time.Since(began)).To(Equal(c.expected))
			})
		})
	}
}
