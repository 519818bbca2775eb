// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package gardenlet

import (
	"context"
	"fmt"
	"os"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	"github.com/gardener/gardener/pkg/component/extensions/extension"
	"github.com/spf13/afero"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/larder-project/larder/test/landscape"
)

// patience has Gardener's values, except for the interval: polling one Shoot is cheaper than polling thousands.
var patience = Patience{
	Interval: 500 * time.Millisecond,
	Severe:   extension.DefaultSevereThreshold,
	Timeout:  extension.DefaultTimeout,
}

// Run runs the stand-in for the gardenlet until the context ends.
func Run(ctx context.Context, l *landscape.Landscape) error {
	logf.SetLogger(zap.New())

	config, err := l.RESTConfig()
	if err != nil {
		return err
	}
	kubeconfig, err := os.ReadFile(l.AdminKubeconfig())
	if err != nil {
		return err
	}

	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(gardencorev1beta1.AddToScheme(scheme))
	utilruntime.Must(extensionsv1alpha1.AddToScheme(scheme))
	utilruntime.Must(resourcesv1alpha1.AddToScheme(scheme))

	mgr, err := manager.New(config, manager.Options{
		Scheme:  scheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&gardencorev1beta1.Shoot{}: {Namespaces: map[string]cache.Config{ProjectNamespace: {}}},
		}},
		// Only watched objects come from a cache, because a flow reads what it has just written.
		NewClient: func(config *rest.Config, options client.Options) (client.Client, error) {
			options.Cache = nil
			return client.New(config, options)
		},
	})
	if err != nil {
		return fmt.Errorf("create manager: %w", err)
	}

	services := newSystemd(l.NodeRoot())
	if err := services.Boot(); err != nil {
		return fmt.Errorf("start the services of the node: %w", err)
	}
	reconciler := &Reconciler{
		Client:     mgr.GetClient(),
		Kubeconfig: kubeconfig,
		Node:       newNode(mgr.GetClient(), afero.NewBasePathFs(afero.NewOsFs(), l.NodeRoot()), services),
		Clock:      clock.RealClock{},
		Patience:   patience,
	}
	if err := reconciler.AddToManager(mgr); err != nil {
		return fmt.Errorf("add Shoot controller: %w", err)
	}
	return mgr.Start(ctx)
}

// AddToManager adds a controller that watches the project's Shoots and, for their conditions, the Extensions in the
// seed.
func (r *Reconciler) AddToManager(mgr manager.Manager) error {
	return builder.ControllerManagedBy(mgr).
		Named("shoot").
		For(&gardencorev1beta1.Shoot{}).
		Watches(&extensionsv1alpha1.Extension{}, handler.EnqueueRequestsFromMapFunc(r.shootOf)).
		WithOptions(controller.Options{
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Second, 10*time.Second),
		}).
		Complete(r)
}

// shootOf returns the Shoot of an object's namespace in the seed.
func (r *Reconciler) shootOf(ctx context.Context, object client.Object) []reconcile.Request {
	list := &gardencorev1beta1.ShootList{}
	if err := r.Client.List(ctx, list, client.InNamespace(ProjectNamespace)); err != nil {
		logf.FromContext(ctx).Error(err, "Failed to list Shoots")
		return nil
	}
	for _, shoot := range list.Items {
		if shoot.Status.TechnicalID == object.GetNamespace() {
			return []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(&shoot)}}
		}
	}
	return nil
}
