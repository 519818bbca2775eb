// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"

	"github.com/larder-project/larder/pkg/webhook/osc/osctest"
	"github.com/larder-project/larder/test/nodewebhook"
	"github.com/larder-project/larder/test/systemd"
)

const registriesDirectory = "etc/containerd/certs.d"

// node has the files of a node below a directory.
type node struct {
	root      string
	upstream  string
	hostsToml string // what the extension wants to be installed
	services  *systemd.DBus
}

// newNode returns a node whose OperatingSystemConfig has the cache.
func newNode(ctx context.Context, root string, b *bench, c *cache) (*node, error) {
	osc := nodewebhook.NewOSC()
	err := nodewebhook.Cache{
		Upstream: b.upstream.Host(), RemoteURL: b.upstream.URL(), Endpoint: c.registry.URL(), Authority: b.authority,
	}.AddTo(ctx, osc)
	if err != nil {
		return nil, fmt.Errorf("run webhook: %w", err)
	}
	n := &node{root: root, upstream: b.upstream.Host(), hostsToml: osctest.Installed(osc)[b.upstream.Host()]}
	n.services = systemd.New(root, io.Discard, "REGISTRY_CACHE_DIRECTORY="+n.path("etc/containerd/registry-cache"), "REGISTRIES_DIRECTORY="+n.registries())
	for _, file := range osc.Spec.Files {
		if err := n.write(file); err != nil {
			return nil, err
		}
	}
	for _, unit := range osc.Spec.Units {
		if err := n.writeText(filepath.Join("etc/systemd/system", unit.Name), 0o644, *unit.Content); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *node) path(name string) string { return filepath.Join(n.root, name) }

// registries is the directory with the hosts.toml that containerd reads.
func (n *node) registries() string { return n.path(registriesDirectory) }

func (n *node) installed() string { return filepath.Join(n.registries(), n.upstream, "hosts.toml") }

func (n *node) write(file extensionsv1alpha1.File) error {
	content := file.Content.Inline.Data
	if file.Content.Inline.Encoding == string(extensionsv1alpha1.B64FileCodecID) {
		decoded, err := base64.StdEncoding.DecodeString(content)
		if err != nil {
			return fmt.Errorf("decode %s: %w", file.Path, err)
		}
		content = string(decoded)
	}
	return n.writeText(file.Path, os.FileMode(*file.Permissions), content)
}

// writeText writes a file, and lets references to other files of the node lead below its root.
func (n *node) writeText(name string, permissions os.FileMode, content string) error {
	if err := os.MkdirAll(filepath.Dir(n.path(name)), 0o755); err != nil { // #nosec G301 -- as on nodes.
		return err
	}
	return os.WriteFile(n.path(name), []byte(strings.ReplaceAll(content, "'/etc/", "'"+n.root+"/etc/")), permissions)
}

// useUnit starts the unit, and waits until it has installed hosts.toml.
func (n *node) useUnit(ctx context.Context) error {
	if err := n.services.Boot(); err != nil {
		return err
	}
	if !n.await(ctx, true) {
		return errors.New("the unit does not install hosts.toml")
	}
	return nil
}

// useAgent installs hosts.toml as gardener-node-agent does: it stays, and has no timeout.
func (n *node) useAgent() error {
	var content strings.Builder
	for line := range strings.Lines(n.hostsToml) {
		if !strings.HasPrefix(line, "dial_timeout") && !strings.HasPrefix(line, "#") {
			content.WriteString(line)
		}
	}
	if content.Len() == len(n.hostsToml) {
		return errors.New("hosts.toml of the extension has no dial_timeout")
	}
	return n.writeText(filepath.Join(registriesDirectory, n.upstream, "hosts.toml"), 0o644, content.String())
}

// await waits until hosts.toml is installed or not, for as long as the unit may take. It reports whether that is so.
func (n *node) await(ctx context.Context, installed bool) bool {
	ctx, cancel := context.WithTimeout(ctx, detectionTime)
	defer cancel()
	for {
		if _, err := os.Stat(n.installed()); (err == nil) == installed {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(50 * time.Millisecond):
		}
	}
}
