// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"io"
	"time"
)

const (
	// rateWindow is the time over which the rate of a body is averaged.
	rateWindow = time.Minute
	// stallTimeout bounds the wait for the next bytes of a body that was flowing and can be resumed: the connection is
	// more likely to be lost than the upstream to be slow, and clients wait meanwhile. The path to the upstream may
	// still be broken then, so Error.Patience is the rest of the time for which the body was to be waited.
	stallTimeout = 5 * time.Second
	// flowing is after how many bytes a body counts as flowing.
	flowing = 64 << 10
)

// timedBody fails when the upstream sends nothing for too long, or too little. The time between reads does not count.
type timedBody struct {
	client *Client
	body   io.ReadCloser
	cancel context.CancelCauseFunc
	timer  *time.Timer
	// resumable means that the upstream supports ranges. Total are all bytes.
	resumable bool
	total     int64
	// waited and arrived are the time and the bytes since the rate was last checked.
	waited  time.Duration
	arrived int64
}

var errIdle = errors.New("idle timeout")

func newTimedBody(c *Client, body io.ReadCloser, resumable bool, cancel context.CancelCauseFunc) *timedBody {
	b := &timedBody{client: c, body: body, resumable: resumable, cancel: cancel}
	b.timer = time.AfterFunc(c.timeouts.Idle, func() { cancel(errIdle) })
	b.timer.Stop()
	return b
}

// Read implements io.Reader.
func (b *timedBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.idle())
	begun := b.client.now()
	n, err := b.body.Read(p)
	if inTime := b.timer.Stop(); !inTime && err != nil && !errors.Is(err, io.EOF) {
		stalled := b.client.fail(Unavailable, 0, "stopped sending")
		stalled.Patience = b.client.timeouts.Idle - b.idle()
		err = stalled
	}
	b.waited += b.client.now().Sub(begun)
	b.arrived += int64(n)
	b.total += int64(n)
	if err == nil && b.waited >= rateWindow {
		if b.arrived < b.client.timeouts.MinRate*int64(b.waited/time.Second) {
			err = b.client.fail(Unavailable, 0, "sends too slowly")
		}
		b.waited, b.arrived = 0, 0
	}
	return n, err
}

// idle returns how long to wait for the next bytes.
func (b *timedBody) idle() time.Duration {
	if b.resumable && b.total >= flowing {
		return min(stallTimeout, b.client.timeouts.Idle)
	}
	return b.client.timeouts.Idle
}

// Close implements io.Closer.
func (b *timedBody) Close() error {
	b.timer.Stop()
	err := b.body.Close()
	b.cancel(nil)
	return err
}
