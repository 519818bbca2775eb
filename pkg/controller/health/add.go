// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"bytes"
	"fmt"
	"maps"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	predicateutils "github.com/gardener/gardener/pkg/controllerutils/predicate"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
)

// ControllerName is the name of the controller.
const ControllerName = "registry-cache-health"

const (
	// reconciliationTimeout bounds a look with all that is written.
	reconciliationTimeout = time.Minute
	// minConcurrentReconciles is the number of looks at a time, unless more reconciliations are configured. A look mostly
	// waits, and no Shoot can take more than a part of that time, see share: so it takes hundreds of unresponsive Shoots to
	// delay the looks at others.
	minConcurrentReconciles = 20
)

// Options configure the controller.
type Options struct {
	// Controller are the options of the controller.
	Controller controller.Options
	// Client is an uncached client for the seed.
	Client client.Client
	// ManagedResource is the name of the ManagedResource that deploys the caches.
	ManagedResource string
	// ExtensionClasses are the classes of Extensions to reconcile.
	ExtensionClasses []extensionsv1alpha1.ExtensionClass
}

// AddToManager adds the controller.
func AddToManager(mgr manager.Manager, options Options) error {
	codec, err := codec.New()
	if err != nil {
		return err
	}
	shoots := &Shoots{Client: options.Client, ReportsTimeout: reportsTimeout, Now: time.Now}
	reconciler := &Reconciler{
		Client:          options.Client,
		Reader:          mgr.GetClient(),
		Codec:           codec,
		ManagedResource: options.ManagedResource,
		Shoots:          shoots,
		PullSecrets:     shoots,
		Recorder:        mgr.GetEventRecorder(ControllerName),
		Clock:           clock.RealClock{},
	}
	collector := &Collector{
		Reader:  mgr.GetCache(),
		Counts:  predicate.And(predicateutils.AddTypeAndClassPredicates(nil, options.ExtensionClasses, registry.ExtensionType)...),
		Elected: mgr.Elected(),
	}
	if err := metrics.Registry.Register(collector); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	// Shoots whose API servers do not respond must not delay the others.
	options.Controller.ReconciliationTimeout = reconciliationTimeout
	options.Controller.MaxConcurrentReconciles = max(options.Controller.MaxConcurrentReconciles, minConcurrentReconciles)
	return builder.ControllerManagedBy(mgr).
		Named(ControllerName).
		WithOptions(options.Controller).
		For(&extensionsv1alpha1.Extension{}, builder.WithPredicates(predicateutils.AddTypeAndClassPredicates(
			[]predicate.Predicate{predicate.Or(wantedChanged(codec), operationEnded())}, options.ExtensionClasses, registry.ExtensionType)...)).
		Complete(reconciler)
}

// wantedChanged admits updates that change the wanted credentials, but not updates of states and conditions, which this
// controller makes: a replica with ever-changing reports would otherwise cause looks and status updates without a pause.
func wantedChanged(codec *codec.Codec) predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, after := providerStatus(e.ObjectOld), providerStatus(e.ObjectNew)
			return !bytes.Equal(before, after) && !maps.Equal(wantedCredentials(codec, before), wantedCredentials(codec, after))
		},
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}

// wantedCredentials returns the names of the Secrets in a provider status, by upstream and repositories.
func wantedCredentials(codec *codec.Codec, raw []byte) map[string][3]string {
	status, err := codec.DecodeStatus(&runtime.RawExtension{Raw: raw})
	if err != nil {
		return nil
	}
	wanted := make(map[string][3]string, len(status.Caches))
	for _, cache := range status.Caches {
		for _, credential := range credentialsOf(cache) {
			status := credential.status
			wanted[credential.name] = [3]string{status.SecretName, status.PendingSecretName, status.PreviousSecretName}
		}
	}
	return wanted
}

// StatusChanged admits updates of the provider status.
func StatusChanged() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, after := providerStatus(e.ObjectOld), providerStatus(e.ObjectNew)
			return !bytes.Equal(before, after)
		},
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}

func providerStatus(object client.Object) []byte {
	if ex, ok := object.(*extensionsv1alpha1.Extension); ok && ex.Status.ProviderStatus != nil {
		return ex.Status.ProviderStatus.Raw
	}
	return nil
}

// operationEnded admits the end of an operation, such as the wake-up of a Shoot, whether it succeeded or failed: a
// problem of one cache must not stop this controller from following the others.
func operationEnded() predicate.Predicate {
	runs := func(object client.Object) bool {
		ex, ok := object.(*extensionsv1alpha1.Extension)
		return ok && ex.Status.LastOperation != nil && ex.Status.LastOperation.State == gardencorev1beta1.LastOperationStateProcessing
	}
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return false },
		UpdateFunc:  func(e event.UpdateEvent) bool { return runs(e.ObjectOld) && !runs(e.ObjectNew) },
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}
