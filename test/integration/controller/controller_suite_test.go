// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package controller_test runs the extension as a program against a real kube-apiserver, which is both seed and Shoot.
// Gardener's own controllers apply the ManagedResources.
package controller_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	resourcemanagerconfigv1alpha1 "github.com/gardener/gardener/pkg/apis/config/resourcemanager/v1alpha1"
	resourcemanagerclient "github.com/gardener/gardener/pkg/resourcemanager/client"
	"github.com/gardener/gardener/pkg/resourcemanager/controller/health/health"
	"github.com/gardener/gardener/pkg/resourcemanager/controller/managedresource"
	resourcemanagerpredicate "github.com/gardener/gardener/pkg/resourcemanager/predicate"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/larder-project/larder/cmd/gardener-extension-registry-cache/app"
	"github.com/larder-project/larder/test/integration/audit"
	"github.com/larder-project/larder/test/integration/seed"
	"github.com/larder-project/larder/test/integration/suite"
	"github.com/larder-project/larder/test/ports"
)

const (
	extensionNamespace = "extension-registry-cache"
	// extensionUser is the user of the extension in the seed and in Shoots.
	extensionUser = "gardener-extension-registry-cache"
)

var (
	testClient client.Client
	kubeconfig []byte
	// requests are those of the extension.
	requests *audit.Log
)

func TestController(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Controller Integration Suite")
}

var _ = BeforeSuite(func(ctx SpecContext) {
	suite.Setup()
	SetDefaultConsistentlyDuration(time.Second)
	EnforceDefaultTimeoutsWhenUsingContexts()

	crds, err := seed.CRDs(ctx)
	Expect(err).NotTo(HaveOccurred())
	testEnv := &envtest.Environment{
		CRDInstallOptions:        envtest.CRDInstallOptions{Paths: crds},
		ErrorIfCRDPathMissing:    true,
		ControlPlaneStartTimeout: suite.ServerTimeout,
		ControlPlaneStopTimeout:  suite.ServerTimeout,
	}
	requests, err = audit.Configure(testEnv.ControlPlane.GetAPIServer(), GinkgoT().TempDir(), []string{extensionUser}, nil)
	Expect(err).NotTo(HaveOccurred())
	config, err := testEnv.Start()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(testEnv.Stop()).To(Succeed()) })

	user, err := testEnv.AddUser(envtest.User{Name: extensionUser, Groups: []string{"system:masters"}}, nil)
	Expect(err).NotTo(HaveOccurred())
	kubeconfig, err = user.KubeConfig()
	Expect(err).NotTo(HaveOccurred())
	testClient, err = client.New(config, client.Options{Scheme: resourcemanagerclient.CombinedScheme})
	Expect(err).NotTo(HaveOccurred())

	suite.Background("gardener-resource-manager", resourceManager(config).Start)
	suite.Background("kube-controller-manager", collectGarbage)
	startExtension(ctx)
}, NodeTimeout(3*suite.ServerTimeout))

// resourceManager returns the part of gardener-resource-manager that applies ManagedResources and checks their health.
func resourceManager(config *rest.Config) manager.Manager {
	mgr, err := manager.New(config, manager.Options{
		Scheme:  resourcemanagerclient.CombinedScheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
	})
	Expect(err).NotTo(HaveOccurred())
	classFilter := resourcemanagerpredicate.NewClassFilter("")
	Expect((&managedresource.Reconciler{
		Config: resourcemanagerconfigv1alpha1.ManagedResourceControllerConfig{
			ConcurrentSyncs:     new(2),
			SyncPeriod:          &metav1.Duration{Duration: time.Minute},
			ManagedByLabelValue: new("gardener"),
		},
		ClassFilter:                   classFilter,
		RequeueAfterOnDeletionPending: new(100 * time.Millisecond),
		GarbageCollectorActivated:     true,
	}).AddToManager(mgr, mgr, mgr)).To(Succeed())
	Expect((&health.Reconciler{
		Config: resourcemanagerconfigv1alpha1.HealthControllerConfig{
			ConcurrentSyncs: new(2),
			SyncPeriod:      &metav1.Duration{Duration: time.Second},
		},
		ClassFilter: classFilter,
	}).AddToManager(mgr, mgr, mgr, "")).To(Succeed())
	return mgr
}

// collectGarbage stands in for kube-controller-manager, as far as objects in deletion are concerned.
func collectGarbage(ctx context.Context) error {
	release := func(object client.Object, finalizers ...string) error {
		if object.GetDeletionTimestamp() == nil {
			return nil
		}
		for _, finalizer := range finalizers {
			controllerutil.RemoveFinalizer(object, finalizer)
		}
		return testClient.Update(ctx, object)
	}
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		// Errors are conflicts, which the next turn resolves.
		statefulSets := &appsv1.StatefulSetList{}
		_ = testClient.List(ctx, statefulSets)
		collectPods(ctx, statefulSets.Items)
		for _, statefulSet := range statefulSets.Items {
			_ = release(&statefulSet, metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents)
		}
		claims := &corev1.PersistentVolumeClaimList{}
		_ = testClient.List(ctx, claims)
		for _, claim := range claims.Items {
			_ = release(&claim, "kubernetes.io/pvc-protection")
		}
	}, 100*time.Millisecond)
	return nil
}

// collectPods orphans the pods of StatefulSets whose deletion orphans them, and deletes those of StatefulSets that are
// deleted otherwise or gone.
func collectPods(ctx context.Context, statefulSets []appsv1.StatefulSet) {
	pods := &corev1.PodList{}
	_ = testClient.List(ctx, pods)
	for _, pod := range pods.Items {
		owner := metav1.GetControllerOf(&pod)
		if owner == nil {
			continue
		}
		i := slices.IndexFunc(statefulSets, func(statefulSet appsv1.StatefulSet) bool { return statefulSet.UID == owner.UID })
		switch {
		case i >= 0 && statefulSets[i].DeletionTimestamp == nil:
		case i >= 0 && controllerutil.ContainsFinalizer(&statefulSets[i], metav1.FinalizerOrphanDependents):
			pod.OwnerReferences = nil
			_ = testClient.Update(ctx, &pod)
		default:
			_ = testClient.Delete(ctx, &pod, client.GracePeriodSeconds(0))
		}
	}
}

func startExtension(ctx context.Context) {
	Expect(testClient.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: extensionNamespace}})).To(Succeed())
	directory := GinkgoT().TempDir()
	write := func(name string, data []byte) string {
		filename := filepath.Join(directory, name)
		Expect(os.WriteFile(filename, data, 0o600)).To(Succeed())
		return filename
	}
	reserved, err := ports.Reserve()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(reserved.Close)
	port := strconv.Itoa(reserved.Port())
	cmd := app.NewCommand()
	cmd.SetArgs([]string{
		"--kubeconfig=" + write("kubeconfig", kubeconfig),
		"--config=" + write("config.yaml", []byte("apiVersion: config.registry.extensions.gardener.cloud/v1alpha1\nkind: Configuration\nhealthCheckConfig: {syncPeriod: 1s}\n")),
		"--leader-election=false",
		"--metrics-bind-address=0",
		"--health-bind-address=0",
		"--heartbeat-namespace=" + extensionNamespace,
		"--webhook-config-mode=url",
		"--webhook-config-url=127.0.0.1:" + port,
		"--webhook-config-server-port=" + port,
		"--webhook-config-namespace=" + extensionNamespace,
		"--webhook-config-cert-dir=" + filepath.Join(directory, "certificates"),
		"--log-format=text",
	})
	suite.Background(app.Name, cmd.ExecuteContext)

	By("waiting for the heartbeat")
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: extensionNamespace, Name: "gardener-extension-heartbeat"}}
	Eventually(ctx, get(lease)).Should(Succeed())
}
