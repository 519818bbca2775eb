// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/cacheserver/status/page"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/secretvolume"
	"github.com/larder-project/larder/test/upstreamsim"
)

const (
	// host is the name of the upstream in the screenshots. The cache reaches it through a proxy, which the simulated
	// registry is.
	host       = "registry.example.com"
	rateLimit  = 200
	robot      = "robot"
	password   = "password"
	patience   = time.Minute
	checkEvery = 100 * time.Millisecond
)

// images are the repositories that are pulled, with the size of a layer.
var images = []struct {
	name  string
	layer int
	pulls int
}{
	{"library/postgres", 36 << 20, 9},
	{"library/nginx", 14 << 20, 14},
	{"monitoring/agent", 3 << 20, 12},
	{"team/shop", 8 << 20, 22},
}

// scene is a cache and its upstream.
type scene struct {
	directory string
	registry  *upstreamsim.Registry
	cache     *cacheprocess.Server
}

func (s *scene) url() string { return "http://" + s.cache.DebugAddress() + page.Path }

func (s *scene) close() {
	if s.cache != nil {
		s.cache.Stop()
	}
	if s.registry != nil {
		s.registry.Close()
	}
}

// play starts the cache, pulls images with several nodes, and ends with a rotation that the upstream rejects, a tag that
// cannot be validated, and an image that cannot be pulled.
func (s *scene) play(ctx context.Context) error {
	if err := s.start(ctx); err != nil {
		return err
	}
	for i, img := range images {
		s.registry.Push(img.name, "1.4.2", upstreamsim.RandomImage(uint64(i), 2, img.layer))
		for node := range img.pulls {
			if _, err := s.node(node).Image(ctx, img.name, "1.4.2"); err != nil {
				return fmt.Errorf("pull %s: %w", img.name, err)
			}
		}
	}
	if _, err := s.node(1).Manifest(ctx, "team/shop", "1.4.3"); pull.StatusOf(err) != http.StatusNotFound {
		return fmt.Errorf("pull a tag that does not exist: %w", err)
	}
	if err := s.rotate(ctx); err != nil {
		return err
	}
	s.registry.Misbehave(upstreamsim.Faults{Status: http.StatusServiceUnavailable})
	defer s.registry.Misbehave(upstreamsim.Faults{})
	if _, err := s.node(2).Manifest(ctx, "team/shop", "1.4.2"); err != nil {
		return fmt.Errorf("pull while the upstream is down: %w", err)
	}
	if _, err := s.node(0).Manifest(ctx, "team/billing", "2.0.0"); err == nil {
		return errors.New("pulled an image that does not exist")
	}
	return nil
}

func (s *scene) start(ctx context.Context) (err error) {
	s.registry, err = upstreamsim.Start(upstreamsim.Options{
		Authentication: upstreamsim.Basic, Username: robot, Password: password,
		Latency: 35 * time.Millisecond, BytesPerSecond: 60 << 20,
	})
	if err != nil {
		return err
	}
	s.registry.Wrap(limited())
	credentialDirectory := filepath.Join(s.directory, "credentials")
	active := named("robot-v1", password)
	if err := secretvolume.Write(credentialDirectory, credentials.Files("", active, nil)); err != nil {
		return err
	}
	rendered, err := config.Config{RemoteURL: "http://" + host, CredentialsDirectory: credentialDirectory, TTL: time.Hour}.Marshal()
	if err != nil {
		return err
	}
	implementation, err := cacheprocess.Build(ctx, cacheprocess.Ours)
	if err != nil {
		return err
	}
	s.cache, err = cacheprocess.New(implementation, filepath.Join(s.directory, "cache"), cacheprocess.Config{Raw: rendered})
	if err != nil {
		return err
	}
	s.cache.Env = []string{"HTTP_PROXY=" + s.registry.URL(), "NO_PROXY="}
	return s.cache.Start(ctx)
}

// limited returns a wrapper that adds the headers of a rate limit to the responses of a registry.
func limited() func(registry http.Handler) http.Handler {
	var used atomic.Int64
	return func(registry http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("RateLimit-Limit", strconv.Itoa(rateLimit)+";w=21600")
			w.Header().Set("RateLimit-Remaining", strconv.FormatInt(rateLimit-used.Add(1), 10)+";w=21600")
			registry.ServeHTTP(w, r)
		})
	}
}

// node returns a client with an address of its own.
func (s *scene) node(number int) *pull.Client {
	client := s.cache.Client()
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(11+number%4))}
	client.HTTP.Transport.(*http.Transport).DialContext = (&net.Dialer{LocalAddr: local}).DialContext
	return client
}

// rotate replaces the credential by one that the upstream rejects, and waits until the cache knows that.
func (s *scene) rotate(ctx context.Context) error {
	active, candidate := named("robot-v1", password), named("robot-v2", "mistyped")
	if err := secretvolume.Write(filepath.Join(s.directory, "credentials"), credentials.Files("", candidate, &active)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		report, err := s.credentials(ctx)
		if err == nil && report.State == credentials.StateRejected {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the check of a credential: %w", errors.Join(ctx.Err(), err))
		case <-time.After(checkEvery):
		}
	}
}

func named(secret, password string) credentials.Named {
	return credentials.Named{Name: secret, Material: credentials.Static(credentials.Credential{Username: robot, Password: password})}
}

// credentials returns the cache's report about its credentials.
func (s *scene) credentials(ctx context.Context) (credentials.Report, error) {
	client := pull.NewClient("http://"+s.cache.DebugAddress(), &http.Transport{})
	response, err := client.Do(ctx, http.MethodGet, config.CredentialsPath, nil)
	if err != nil {
		return credentials.Report{}, err
	}
	defer func() { _ = response.Body.Close() }()
	var report credentials.Report
	return report, json.NewDecoder(response.Body).Decode(&report)
}
