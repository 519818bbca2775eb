// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/pull"
)

// firstByte compares the time of the first byte of an uncached blob from the cache with that from the upstream itself.
// Each blob is requested from both, one after the other, so that both find the machine in the same state.
func firstByte(ctx context.Context, b *bench) error {
	delay := b.table.row("cold blob: first byte after", "%.1f ms", limit{plusRaw: 5})
	direct := b.client(b.upstream.URL)
	defer direct.Close()
	token, err := b.token(ctx, direct)
	if err != nil {
		return fmt.Errorf("upstream: %w", err)
	}
	direct.Authorization = "Bearer " + token

	return b.each(ctx, nil, func(c column, server *cacheprocess.Server) error {
		cached := server.Client()
		defer cached.Close()
		for _, client := range []*pull.Client{direct, cached} {
			if _, err := client.Manifest(ctx, smallName, tag); err != nil {
				return err
			}
		}
		for _, layer := range b.small.Layers() {
			for client, to := range map[*pull.Client]column{direct: raw, cached: c} {
				elapsed, err := timeFirstByte(ctx, client, layer.Descriptor().Digest)
				if err != nil {
					return err
				}
				delay.add(to, float64(elapsed.Microseconds())/1000)
			}
		}
		return nil
	})
}

// timeFirstByte returns the time until the first byte of a blob.
func timeFirstByte(ctx context.Context, client *pull.Client, dgst digest.Digest) (time.Duration, error) {
	var elapsed time.Duration
	begin := time.Now()
	client.FirstByte = func() { elapsed = time.Since(begin) }
	_, err := client.Blob(ctx, smallName, dgst)
	return elapsed, err
}

// token gets a token from the upstream for its small image.
func (b *bench) token(ctx context.Context, client *pull.Client) (string, error) {
	query := url.Values{"scope": {"repository:" + smallName + ":pull"}, "service": {"upstreamsim"}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.upstream.URL+"/token?"+query.Encode(), nil)
	if err != nil {
		return "", err
	}
	request.SetBasicAuth(username, password)
	response, err := client.HTTP.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	var body struct{ Token string }
	return body.Token, json.NewDecoder(response.Body).Decode(&body)
}
