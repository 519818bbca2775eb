// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package volumes provisions persistent volumes as directories of the only node: it creates a volume for each claim of
// its class, grows it with the claim, and deletes it with its content after the claim. The size of a volume is a number
// in its object and not enforced.
package volumes

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

const (
	// StorageClass is the name of the class.
	StorageClass = "local"
	// Provisioner is the name of the provisioner in the class.
	Provisioner = "larder.test/local"
)

// Options describes the location of volumes.
type Options struct {
	// Dir is the parent directory of all volumes.
	Dir string
	// Node is the name of the node with that directory.
	Node string
	// HealthAddress is the address of /readyz.
	HealthAddress string
}

// Run provisions volumes until ctx is done.
func Run(ctx context.Context, config *rest.Config, options Options) error {
	mgr, err := manager.New(config, manager.Options{
		Scheme:                 scheme.Scheme,
		Metrics:                metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress: options.HealthAddress,
	})
	if err != nil {
		return fmt.Errorf("prepare provisioner: %w", err)
	}
	claims := builder.ControllerManagedBy(mgr).
		Named("claims").
		For(&corev1.PersistentVolumeClaim{}, builder.WithPredicates(predicate.NewPredicateFuncs(ownClaim))).
		Complete(&ClaimReconciler{Client: mgr.GetClient(), Options: options})
	volumes := builder.ControllerManagedBy(mgr).
		Named("volumes").
		For(&corev1.PersistentVolume{}, builder.WithPredicates(predicate.NewPredicateFuncs(ownVolume))).
		Complete(&VolumeReconciler{Client: mgr.GetClient()})
	ready := mgr.AddReadyzCheck("ping", func(_ *http.Request) error { return nil })
	if err := errors.Join(claims, volumes, ready); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

func ownClaim(object client.Object) bool {
	return object.GetAnnotations()[requestedAnnotation] == Provisioner
}

func ownVolume(object client.Object) bool {
	return object.GetAnnotations()[provisionedAnnotation] == Provisioner
}
