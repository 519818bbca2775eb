// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Containerd's CRI plugin cancels a pull if no byte arrives for image_pull_progress_timeout, by default 5 minutes,
// while a request is open. It looks every 10 seconds.
const (
	progressTimeout  = 5 * time.Minute
	progressInterval = 10 * time.Second
)

var errNoProgress = errors.New("canceled because no byte arrived for 5 minutes")

// progress counts the open requests of a pull, and the bytes that arrive.
type progress struct {
	requests, bytes atomic.Int64
}

// watch calls cancel if the pull makes no progress.
func watch(ctx context.Context, cancel func()) *progress {
	p := &progress{}
	go func() {
		ticker := time.NewTicker(progressInterval)
		defer ticker.Stop()
		seen, last := int64(0), time.Now()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if bytes := p.bytes.Load(); bytes > seen || p.requests.Load() == 0 {
				seen, last = bytes, time.Now()
			} else if time.Since(last) > progressTimeout {
				cancel()
				return
			}
		}
	}()
	return p
}

// update makes a client count.
func (p *progress) update(client *http.Client) error {
	client.Transport = &countingTransport{progress: p, next: client.Transport}
	return nil
}

type countingTransport struct {
	progress *progress
	next     http.RoundTripper
}

// RoundTrip implements http.RoundTripper. A request is open until its body is closed.
func (t *countingTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	t.progress.requests.Add(1)
	response, err := t.next.RoundTrip(request)
	if err != nil {
		t.progress.requests.Add(-1)
		return nil, err
	}
	response.Body = &countingBody{ReadCloser: response.Body, progress: t.progress}
	return response, nil
}

type countingBody struct {
	io.ReadCloser
	progress *progress
	once     sync.Once
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.progress.bytes.Add(int64(n))
	return n, err
}

func (b *countingBody) Close() error {
	b.once.Do(func() { b.progress.requests.Add(-1) })
	return b.ReadCloser.Close()
}
