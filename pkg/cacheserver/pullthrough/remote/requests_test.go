// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"io"
	"net/http"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

// source is an endless body with slow reads.
type source struct{ read func() }

func (s source) Read(p []byte) (int, error) {
	s.read()
	return len(p), nil
}

var _ = DescribeTable("A body that trickles is cut off", func(ctx context.Context, bytesEach20Seconds int, minRate int64, after time.Duration) {
	start := time.Now()
	now := start
	c, err := remote.New(remote.Options{
		URL: "https://registry.example.com", Observer: newObserver(), Now: func() time.Time { return now },
		Timeouts: remote.Timeouts{Idle: time.Minute, MinRate: minRate},
		Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
			resp := response(req, http.StatusOK, http.Header{})
			resp.Body = io.NopCloser(source{read: func() { now = now.Add(20 * time.Second) }})
			return resp, nil
		}),
	})
	Expect(err).NotTo(HaveOccurred())
	b, err := c.FetchBlob(ctx, "a", blob, remote.Position{})
	Expect(err).NotTo(HaveOccurred())
	defer b.Body.Close()
	for err == nil && now.Sub(start) < 10*time.Minute {
		now = now.Add(time.Hour) // The time between reads does not count.
		start = start.Add(time.Hour)
		_, err = b.Body.Read(make([]byte, bytesEach20Seconds))
	}
	Expect(now.Sub(start)).To(Equal(after))
	if after < 10*time.Minute {
		Expect(err).To(MatchError(ContainSubstring("too slowly")))
		Expect(remote.Is(err, remote.Unavailable)).To(BeTrue())
	}
},
	Entry("if it brings too little in a minute", 20*1024-1, int64(1024), time.Minute),
	Entry("unless it brings enough", 20*1024, int64(1024), 10*time.Minute),
	Entry("unless there is no minimum", 1, int64(0), 10*time.Minute),
)
