// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/larder-project/larder/test/pull"
)

// firstBytes pulls the small image's layers one after the other, once its
// manifest is there, and returns after how many milliseconds the first byte of
// each arrived.
func (b *bench) firstBytes(ctx context.Context, registry string) ([]float64, error) {
	client := b.client(registry)
	defer client.Close()
	if registry == b.upstream.URL {
		token, err := b.token(ctx, client)
		if err != nil {
			return nil, err
		}
		client.Authorization = "Bearer " + token
	}
	if _, err := client.Manifest(ctx, smallName, tag); err != nil {
		return nil, err
	}
	var delays []float64
	for _, layer := range b.small.Layers() {
		begin := time.Now()
		client.FirstByte = func() {
			delays = append(delays, float64(time.Since(begin).Microseconds())/1000)
		}
		if _, err := client.Blob(ctx, smallName, layer.Descriptor().Digest); err != nil {
			return delays, err
		}
	}
	return delays, nil
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
	defer response.Body.Close()
	var answer struct{ Token string }
	return answer.Token, json.NewDecoder(response.Body).Decode(&answer)
}
