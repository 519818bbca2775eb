// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// slack is how far transfers may run ahead of the line before they sleep. Longer sleeps are more accurate.
const slack = 2 * time.Millisecond

// line is a network line that all connections share.
type line struct {
	bytesPerSecond float64 // 0 is unlimited

	mu   sync.Mutex
	free time.Time // when the line has sent everything
}

// carry waits until the line has sent n more bytes.
func (l *line) carry(ctx context.Context, n int) error {
	if l.bytesPerSecond <= 0 {
		return ctx.Err()
	}
	l.mu.Lock()
	if now := time.Now(); l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / l.bytesPerSecond * float64(time.Second)))
	wait := time.Until(l.free)
	l.mu.Unlock()

	if wait < slack {
		return ctx.Err()
	}
	return sleep(ctx, wait)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send writes data to the client at the pace of the line. It counts bytes before it writes them, so that the counters
// are correct as soon as the client has everything. As on a real line, concurrent transfers do not get equal shares:
// larger chunks get more.
func (l *line) send(ctx context.Context, w http.ResponseWriter, data []byte, count func(n int)) error {
	const smallest, largest = 16 << 10, 128 << 10
	chunk := smallest + rand.IntN(largest-smallest) //nolint:gosec // not a secret
	sent := 0
	for sent < len(data) {
		n := min(chunk, len(data)-sent)
		if err := l.carry(ctx, n); err != nil {
			return err
		}
		count(n)
		written, err := w.Write(data[sent : sent+n])
		sent += written
		if err != nil {
			count(written - n)
			return err
		}
	}
	return nil
}
