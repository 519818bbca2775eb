// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"context"
	"regexp"
	"time"

	"github.com/Masterminds/semver/v3"
	nodeagentconfigv1alpha1 "github.com/gardener/gardener/pkg/apis/config/nodeagent/v1alpha1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	"github.com/gardener/gardener/pkg/component/extensions/operatingsystemconfig/original/components/nodeagent"
	fakecontainerd "github.com/gardener/gardener/pkg/nodeagent/containerd/fake"
	"github.com/gardener/gardener/pkg/nodeagent/controller/operatingsystemconfig"
	"github.com/gardener/gardener/pkg/nodeagent/dbus"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/spf13/afero"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/larder-project/larder/test/nodewebhook"
)

// machine is a node with gardener-node-agent's own reconciler.
type machine struct {
	cluster client.Client
	agent   *operatingsystemconfig.Reconciler
}

func newMachine(files afero.Fs, services dbus.DBus) *machine {
	GinkgoHelper()
	for _, directory := range []string{"/etc/containerd", "/etc/systemd/system", nodeagentconfigv1alpha1.TempDir} {
		Expect(files.MkdirAll(directory, 0o755)).To(Succeed())
	}
	Expect(afero.WriteFile(files, "/etc/containerd/config.toml", []byte("version = 3\n"), 0o600)).To(Succeed())
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node", Labels: map[string]string{corev1.LabelHostname: "node"}}}
	cluster := fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(node).Build()
	return &machine{cluster: cluster, agent: &operatingsystemconfig.Reconciler{
		APIReader:        cluster,
		Client:           cluster,
		LeaseClient:      cluster,
		ContainerdClient: fakecontainerd.NewClient(),
		Config: nodeagentconfigv1alpha1.OperatingSystemConfigControllerConfig{
			SyncPeriod: &metav1.Duration{Duration: time.Hour}, KubernetesVersion: semver.MustParse("1.36.3"),
		},
		Clock:         clock.RealClock{},
		Recorder:      &events.FakeRecorder{},
		DBus:          services,
		FS:            afero.Afero{Fs: files},
		HostName:      "node",
		NodeName:      "node",
		CancelContext: func() {},
	}}
}

// apply lets the node agent apply an OperatingSystemConfig.
func (m *machine) apply(ctx context.Context, object *extensionsv1alpha1.OperatingSystemConfig) {
	GinkgoHelper()
	secret, err := nodeagent.OperatingSystemConfigSecret(ctx, nil, object, "osc", "pool", false)
	Expect(err).NotTo(HaveOccurred())
	Expect(client.IgnoreNotFound(m.cluster.Delete(ctx, secret.DeepCopy()))).To(Succeed())
	Expect(m.cluster.Create(ctx, secret)).To(Succeed())
	// A failed probe is retried until the context ends.
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	_, err = m.agent.Reconcile(ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(secret)})
	Expect(err).NotTo(HaveOccurred())
}

// addCache adds a cache for docker.io.
func addCache(ctx context.Context, object *extensionsv1alpha1.OperatingSystemConfig, cache nodewebhook.Cache) {
	GinkgoHelper()
	cache.Upstream, cache.RemoteURL = "docker.io", "https://registry-1.docker.io"
	Expect(cache.AddTo(ctx, object)).To(Succeed())
}

var reference = regexp.MustCompile(`'(/etc/[^']+)'`)

// references returns the files to which a hosts.toml refers.
func references(hosts string) []string {
	var names []string
	for _, match := range reference.FindAllStringSubmatch(hosts, -1) {
		names = append(names, match[1])
	}
	return names
}
