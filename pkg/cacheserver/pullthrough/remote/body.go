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

// rateWindow is the time over which the rate of a body is averaged.
const rateWindow = time.Minute

// timedBody fails when the upstream sends nothing for too long, or too little. The time between reads does not count.
type timedBody struct {
	client *Client
	body   io.ReadCloser
	cancel context.CancelCauseFunc
	timer  *time.Timer
	// waited and arrived are the time and the bytes since the rate was last checked.
	waited  time.Duration
	arrived int64
}

var errIdle = errors.New("idle timeout")

func newTimedBody(c *Client, body io.ReadCloser, cancel context.CancelCauseFunc) *timedBody {
	b := &timedBody{client: c, body: body, cancel: cancel}
	b.timer = time.AfterFunc(c.timeouts.Idle, func() { cancel(errIdle) })
	b.timer.Stop()
	return b
}

// Read implements io.Reader.
func (b *timedBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.client.timeouts.Idle)
	begun := b.client.now()
	n, err := b.body.Read(p)
	if inTime := b.timer.Stop(); !inTime && err != nil && !errors.Is(err, io.EOF) {
		err = b.client.fail(Unavailable, 0, "stopped sending")
	}
	b.waited += b.client.now().Sub(begun)
	b.arrived += int64(n)
	if err == nil && b.waited >= rateWindow {
		if b.arrived < b.client.timeouts.MinRate*int64(b.waited/time.Second) {
			err = b.client.fail(Unavailable, 0, "sends too slowly")
		}
		b.waited, b.arrived = 0, 0
	}
	return n, err
}

// Close implements io.Closer.
func (b *timedBody) Close() error {
	b.timer.Stop()
	err := b.body.Close()
	b.cancel(nil)
	return err
}
