// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-project/larder/test/blackhole"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/upstreamsim"
)

const (
	repository = "app"
	tag        = "v1"
)

// bench is what all measurements share.
type bench struct {
	dir       string
	puller    string // the program
	image     upstreamsim.Image
	upstream  *upstreamsim.Registry
	authority *pki.Authority

	quiet sync.Mutex // held by the only pull at a time that measures work instead of waiting
}

func newBench(ctx context.Context, dir string, layers int) (_ *bench, err error) {
	b := &bench{dir: dir, puller: filepath.Join(dir, "puller"), image: upstreamsim.RandomImage(1, layers, layerSize)}
	if err := buildPuller(ctx, b.puller); err != nil {
		return nil, err
	}
	if b.authority, err = pki.NewAuthority("caches"); err != nil {
		return nil, err
	}
	if b.upstream, err = upstreamsim.Start(upstreamsim.Options{}); err != nil {
		return nil, fmt.Errorf("start upstream: %w", err)
	}
	b.push(b.upstream)
	return b, nil
}

func (b *bench) close() { b.upstream.Close() }

// push pushes the image with an index, as those of Docker Hub.
func (b *bench) push(registry *upstreamsim.Registry) {
	registry.Push(repository, "", b.image)
	registry.PushManifest(repository, tag, upstreamsim.NewIndex(b.image))
}

// pull pulls the image from the upstream in a process of its own, which knows no hosts but those in the directory.
func (b *bench) pull(ctx context.Context, major int, registries string) (pulled, error) {
	command := exec.CommandContext(ctx, b.puller, "-containerd", strconv.Itoa(major), "-registries", registries, // #nosec G204 -- built above.
		b.upstream.Host()+"/"+repository+":"+tag)
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return pulled{}, fmt.Errorf("run puller: %w", err)
	}
	var result pulled
	if err := json.Unmarshal(output, &result); err != nil {
		return pulled{}, fmt.Errorf("decode output of puller: %w", err)
	}
	return result, nil
}

// pullHealthy pulls the image, which must succeed, while no other such pull is running.
func (b *bench) pullHealthy(ctx context.Context, major int, registries string) (pulled, error) {
	b.quiet.Lock()
	defer b.quiet.Unlock()
	result, err := b.pull(ctx, major, registries)
	if err == nil && result.Error != "" {
		err = fmt.Errorf("pull without a fault: %s", result.Error)
	}
	return result, err
}

// pulled is the output of the puller.
type pulled struct {
	Version string
	Seconds float64
	Error   string
}

func (p pulled) duration() time.Duration { return time.Duration(p.Seconds * float64(time.Second)) }

// buildPuller builds the puller, which is a module of its own.
func buildPuller(ctx context.Context, path string) error {
	module, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	command := exec.CommandContext(ctx, "go", "build", "-o", path, ".") // #nosec G204 -- path is in a directory of this program.
	command.Dir = filepath.Join(filepath.Dir(strings.TrimSpace(string(module))), "test/bench/faults/puller")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build puller: %w\n%s", err, output)
	}
	return nil
}

// cache stands in for a cache that has the image: the faults are in the network or at the socket, and do not depend on
// what is behind them.
type cache struct {
	registry *upstreamsim.Registry
	current  atomic.Pointer[blackhole.Listener]
	drop     func() error // called during a pull; nil if the fault begins before
}

func (b *bench) startCache() (*cache, error) {
	pair, err := b.authority.Issue(pki.Request{CommonName: "cache", Hosts: []string{"127.0.0.1"}})
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	certificate, err := pair.TLS()
	if err != nil {
		return nil, err
	}
	c := &cache{}
	c.registry, err = upstreamsim.Start(upstreamsim.Options{Certificate: &certificate, Listen: func(network, address string) (net.Listener, error) {
		listener, err := blackhole.Listen(network, address)
		if err != nil {
			return nil, err
		}
		c.current.Store(listener)
		return listener, nil
	}})
	if err != nil {
		return nil, fmt.Errorf("start cache: %w", err)
	}
	b.push(c.registry)
	return c, nil
}

func (c *cache) listener() *blackhole.Listener { return c.current.Load() }
