// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package gardenlet

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/Masterminds/semver/v3"
	nodeagentconfigv1alpha1 "github.com/gardener/gardener/pkg/apis/config/nodeagent/v1alpha1"
	fakecontainerd "github.com/gardener/gardener/pkg/nodeagent/containerd/fake"
	"github.com/gardener/gardener/pkg/nodeagent/controller/operatingsystemconfig"
	fakedbus "github.com/gardener/gardener/pkg/nodeagent/dbus/fake"
	fakeregistry "github.com/gardener/gardener/pkg/nodeagent/registry/fake"
	"github.com/spf13/afero"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	containerdConfig = "/etc/containerd/config.toml"
	certsDir         = "/etc/containerd/certs.d"
	systemdDir       = "/etc/systemd/system"
	// containerdVersion is what the node runs; Gardener's reconciler asks for it.
	containerdVersion = "2.4.2"
)

// node is the one machine of the landscape. Gardener's own reconciler writes to its file system; what the reconciler
// wants from systemd is recorded and forgotten.
type node struct {
	client client.Client
	fs     afero.Afero
	// mutex keeps pools and Shoots, which share the machine, apart.
	mutex sync.Mutex
}

// newNode returns the machine whose root is the given file system.
func newNode(c client.Client, root afero.Fs) *node {
	return &node{client: c, fs: afero.Afero{Fs: root}}
}

// Apply runs gardener-node-agent's reconciler once. It returns after hosts.toml is written, for which the reconciler
// first waits until every cache answers.
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
		return fmt.Errorf("gardener-node-agent on node %s: %w", machine.Name, err)
	}
	return nil
}

// prepare makes what the image of a machine brings along. Without a configuration of containerd, the reconciler would ask
// a containerd binary for one; the node's real containerd has its own, elsewhere.
func (n *node) prepare() error {
	for _, dir := range []string{systemdDir, nodeagentconfigv1alpha1.TempDir, filepath.Dir(containerdConfig)} {
		if err := n.fs.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("could not create %s on the node: %w", dir, err)
		}
	}
	if exists, err := n.fs.Exists(containerdConfig); err != nil || exists {
		return err
	}
	return n.fs.WriteFile(containerdConfig, []byte("version = 3\n"), 0o644)
}

// Wipe removes the registries from the node, and the state from which gardener-node-agent would conclude that they are
// still there.
func (n *node) Wipe(ctx context.Context) error {
	n.mutex.Lock()
	defer n.mutex.Unlock()

	registries, err := afero.Glob(n.fs, certsDir+"/*")
	if err != nil {
		return fmt.Errorf("could not list %s on the node: %w", certsDir, err)
	}
	// The directory itself stays: containerd looks into it.
	for _, path := range append(registries, nodeagentconfigv1alpha1.BaseDir) {
		if err := n.fs.RemoveAll(path); err != nil {
			return fmt.Errorf("could not remove %s from the node: %w", path, err)
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

// object returns the Node, of which the landscape has one.
func (n *node) object(ctx context.Context) (*corev1.Node, error) {
	list := &corev1.NodeList{}
	if err := n.client.List(ctx, list); err != nil {
		return nil, fmt.Errorf("could not list nodes: %w", err)
	}
	if len(list.Items) != 1 {
		return nil, fmt.Errorf("the landscape has one node, but %d are registered", len(list.Items))
	}
	return &list.Items[0], nil
}

func (n *node) agent(machine *corev1.Node) (*operatingsystemconfig.Reconciler, error) {
	version, err := semver.NewVersion(strings.TrimPrefix(machine.Status.NodeInfo.KubeletVersion, "v"))
	if err != nil {
		return nil, fmt.Errorf("could not read the kubelet's version on node %s: %w", machine.Name, err)
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
		DBus:          fakedbus.New(),
		FS:            n.fs,
		Extractor:     fakeregistry.NewExtractor(n.fs, "/"),
		CancelContext: func() {},
		HostName:      machine.Name,
		NodeName:      machine.Name,
	}, nil
}

var _ Machine = (*node)(nil)
