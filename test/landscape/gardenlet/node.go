// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package gardenlet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/Masterminds/semver/v3"
	nodeagentconfigv1alpha1 "github.com/gardener/gardener/pkg/apis/config/nodeagent/v1alpha1"
	fakecontainerd "github.com/gardener/gardener/pkg/nodeagent/containerd/fake"
	"github.com/gardener/gardener/pkg/nodeagent/controller/operatingsystemconfig"
	fakeregistry "github.com/gardener/gardener/pkg/nodeagent/registry/fake"
	"github.com/spf13/afero"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/larder-project/larder/test/systemd"
)

const (
	containerdConfig = "/etc/containerd/config.toml"
	certsDir         = "/etc/containerd/certs.d"
	systemdDir       = "/etc/systemd/system"
	// hostsDir and hostsUnit are the files and the unit that install hosts.toml of caches.
	hostsDir  = "/etc/containerd/registry-cache"
	hostsUnit = systemdDir + "/registry-cache-hosts.service"
	// containerdVersion is the version on the node, which Gardener's reconciler reads.
	containerdVersion = "2.4.2"
)

// installTimeout bounds the wait until the unit of the caches has installed their hosts.toml.
const installTimeout = 90 * time.Second

// node is the only machine of the landscape. Gardener's own reconciler writes to its file system; package systemd runs
// the unit of the caches.
type node struct {
	client  client.Client
	fs      afero.Afero
	systemd *systemd.DBus
	// mutex serializes pools and Shoots, which share the machine.
	mutex sync.Mutex
}

// newNode returns the machine with the given root directory.
func newNode(c client.Client, root afero.Fs, services *systemd.DBus) *node {
	return &node{client: c, fs: afero.Afero{Fs: root}, systemd: services}
}

// newSystemd returns the systemd of the machine with the given root directory.
func newSystemd(root string) *systemd.DBus {
	return systemd.New(root, os.Stderr,
		"REGISTRY_CACHE_DIRECTORY="+filepath.Join(root, hostsDir),
		"REGISTRIES_DIRECTORY="+filepath.Join(root, certsDir),
	)
}

// Apply runs gardener-node-agent's reconciler once. Unlike that, it waits until the unit of the caches has installed
// each hosts.toml, so that a test that awaits the Shoot can pull through a new cache.
func (n *node) Apply(ctx context.Context, secret client.ObjectKey) error {
	n.mutex.Lock()
	defer n.mutex.Unlock()

	if err := n.prepare(); err != nil {
		return err
	}
	machine, err := n.object(ctx)
	if err != nil {
		return err
	}
	agent, err := n.agent(machine)
	if err != nil {
		return err
	}
	if _, err := agent.Reconcile(ctx, reconcile.Request{NamespacedName: secret}); err != nil {
		return fmt.Errorf("run gardener-node-agent on node %s: %w", machine.Name, err)
	}
	return n.awaitHosts(ctx)
}

// awaitHosts waits until the node uses all caches. A cache that does not respond is no error.
func (n *node) awaitHosts(ctx context.Context) error {
	paths, err := afero.Glob(n.fs, hostsDir+"/*.toml")
	if err != nil {
		return fmt.Errorf("list %s on the node: %w", hostsDir, err)
	}
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, installTimeout, true, func(context.Context) (bool, error) {
		for _, path := range paths {
			upstream := strings.TrimSuffix(filepath.Base(path), ".toml")
			if exists, err := n.fs.Exists(filepath.Join(certsDir, upstream, "hosts.toml")); err != nil || !exists {
				return false, err
			}
		}
		return true, nil
	})
	if wait.Interrupted(err) && ctx.Err() == nil {
		return nil
	}
	return err
}

// prepare creates the files of a machine image. Without a containerd configuration, the reconciler would run a
// containerd binary to get one; the node's real containerd has another one elsewhere.
func (n *node) prepare() error {
	for _, dir := range []string{systemdDir, nodeagentconfigv1alpha1.TempDir, filepath.Dir(containerdConfig)} {
		if err := n.fs.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("create %s on the node: %w", dir, err)
		}
	}
	if exists, err := n.fs.Exists(containerdConfig); err != nil || exists {
		return err
	}
	return n.fs.WriteFile(containerdConfig, []byte("version = 3\n"), 0o644)
}

// Wipe removes the registry configuration from the node, and the state from which gardener-node-agent would conclude
// that it still exists.
func (n *node) Wipe(ctx context.Context) error {
	n.mutex.Lock()
	defer n.mutex.Unlock()

	if err := n.systemd.Shutdown(); err != nil {
		return err
	}
	registries, err := afero.Glob(n.fs, certsDir+"/*")
	if err != nil {
		return fmt.Errorf("list %s on the node: %w", certsDir, err)
	}
	// Keep the directory itself, which containerd reads.
	for _, path := range append(registries, nodeagentconfigv1alpha1.BaseDir, hostsDir, hostsUnit) {
		if err := n.fs.RemoveAll(path); err != nil {
			return fmt.Errorf("remove %s from the node: %w", path, err)
		}
	}

	machine, err := n.object(ctx)
	if err != nil {
		return err
	}
	patch := client.MergeFrom(machine.DeepCopy())
	delete(machine.Annotations, nodeagentconfigv1alpha1.AnnotationKeyChecksumAppliedOperatingSystemConfig)
	return n.client.Patch(ctx, machine, patch)
}

// object returns the only Node of the landscape.
func (n *node) object(ctx context.Context) (*corev1.Node, error) {
	list := &corev1.NodeList{}
	if err := n.client.List(ctx, list); err != nil {
		return nil, fmt.Errorf("list Nodes: %w", err)
	}
	if len(list.Items) != 1 {
		return nil, fmt.Errorf("expected one Node, found %d", len(list.Items))
	}
	return &list.Items[0], nil
}

func (n *node) agent(machine *corev1.Node) (*operatingsystemconfig.Reconciler, error) {
	version, err := semver.NewVersion(strings.TrimPrefix(machine.Status.NodeInfo.KubeletVersion, "v"))
	if err != nil {
		return nil, fmt.Errorf("parse kubelet version of Node %s: %w", machine.Name, err)
	}
	containerd := fakecontainerd.NewClient()
	containerd.SetFakeContainerdVersion(containerdVersion)

	return &operatingsystemconfig.Reconciler{
		APIReader:        n.client,
		Client:           n.client,
		LeaseClient:      n.client,
		ContainerdClient: containerd,
		Config: nodeagentconfigv1alpha1.OperatingSystemConfigControllerConfig{
			KubernetesVersion: version,
			SyncPeriod:        &metav1.Duration{}, // Apply decides when to run again.
		},
		Clock:         clock.RealClock{},
		Recorder:      &events.FakeRecorder{},
		DBus:          n.systemd,
		FS:            n.fs,
		Extractor:     fakeregistry.NewExtractor(n.fs, "/"),
		CancelContext: func() {},
		HostName:      machine.Name,
		NodeName:      machine.Name,
	}, nil
}

var _ Machine = (*node)(nil)
