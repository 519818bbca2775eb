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
	"strconv"
	"strings"
	"sync"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	resourcemanagerclient "github.com/gardener/gardener/pkg/resourcemanager/client"
	"github.com/gardener/gardener/pkg/utils/kubernetes/health"
	"github.com/gardener/gardener/pkg/utils/managedresources"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/cacheserver/status"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/credentials"
)

// standIn does at once what gardener-resource-manager and kube-controller-manager do for the caches of a Shoot. An
// object that several Shoots have is created for the first of them.
type standIn struct {
	client client.Client
	// replicas is the address of all replicas.
	replicas string
	created  sync.Map
}

// start starts the controller, and the server that is all replicas.
func (s *standIn) start(ctx context.Context, server *server) (stop func() error, err error) {
	s.client = server.client
	if s.replicas, err = hostAddress(); err != nil {
		return nil, err
	}
	mgr, err := manager.New(server.config, manager.Options{
		Scheme:  resourcemanagerclient.CombinedScheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
	})
	if err != nil {
		return nil, err
	}
	if err := ctrl.NewControllerManagedBy(mgr).For(&resourcesv1alpha1.ManagedResource{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: 8, SkipNameValidation: new(true)}).
		Complete(reconcile.AsReconciler[*resourcesv1alpha1.ManagedResource](mgr.GetClient(), s)); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(s.replicas, strconv.Itoa(config.DebugPort)))
	if err != nil {
		return nil, err
	}
	replicas := &http.Server{Handler: http.HandlerFunc(serveReport), ReadHeaderTimeout: time.Minute}
	go func() { _ = replicas.Serve(listener) }()
	ctx, cancel := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() { stopped <- mgr.Start(ctx) }()
	return func() error {
		cancel()
		return errors.Join(<-stopped, replicas.Close())
	}, nil
}

// Reconcile applies a ManagedResource.
func (s *standIn) Reconcile(ctx context.Context, managedResource *resourcesv1alpha1.ManagedResource) (reconcile.Result, error) {
	if managedResource.DeletionTimestamp != nil || health.CheckManagedResource(managedResource) == nil {
		return reconcile.Result{}, nil
	}
	for _, reference := range managedResource.Spec.SecretRefs {
		if err := s.apply(ctx, client.ObjectKey{Namespace: managedResource.Namespace, Name: reference.Name}); err != nil {
			return reconcile.Result{}, err
		}
	}
	patch := client.MergeFrom(managedResource.DeepCopy())
	managedResource.Status.ObservedGeneration = managedResource.Generation
	managedResource.Status.Conditions = nil
	for condition, status := range map[gardencorev1beta1.ConditionType]gardencorev1beta1.ConditionStatus{
		resourcesv1alpha1.ResourcesApplied:     gardencorev1beta1.ConditionTrue,
		resourcesv1alpha1.ResourcesHealthy:     gardencorev1beta1.ConditionTrue,
		resourcesv1alpha1.ResourcesProgressing: gardencorev1beta1.ConditionFalse,
	} {
		managedResource.Status.Conditions = append(managedResource.Status.Conditions, gardencorev1beta1.Condition{
			Type: condition, Status: status, LastTransitionTime: metav1.Now(), LastUpdateTime: metav1.Now(), Reason: "Applied",
		})
	}
	return reconcile.Result{}, client.IgnoreNotFound(s.client.Status().Patch(ctx, managedResource, patch))
}

// apply creates the objects in a Secret of a ManagedResource that do not exist.
func (s *standIn) apply(ctx context.Context, key client.ObjectKey) error {
	secret := &corev1.Secret{}
	if err := s.client.Get(ctx, key, secret); err != nil {
		return client.IgnoreNotFound(err)
	}
	objects, err := managedresources.ExtractObjectsFromSecret(kubernetes.ShootCodec.UniversalDeserializer(), secret)
	if err != nil {
		return err
	}
	for _, object := range objects {
		if _, found := s.created.LoadOrStore(fmt.Sprintf("%T %s", object, client.ObjectKeyFromObject(object)), true); found {
			continue
		}
		if err := s.create(ctx, object); err != nil {
			return err
		}
		if statefulSet, ok := object.(*appsv1.StatefulSet); ok {
			if err := s.createReplica(ctx, statefulSet); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *standIn) create(ctx context.Context, object client.Object) error {
	if err := s.client.Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create %T %s: %w", object, client.ObjectKeyFromObject(object), err)
	}
	return nil
}

// createReplica creates the pod and the claim of a StatefulSet with one replica.
func (s *standIn) createReplica(ctx context.Context, statefulSet *appsv1.StatefulSet) error {
	template := statefulSet.Spec.VolumeClaimTemplates[0]
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: statefulSet.Namespace, Name: component.ClaimName(statefulSet.Name, 0), Labels: statefulSet.Labels},
		Spec:       template.Spec,
	}
	if err := s.create(ctx, claim); err != nil {
		return err
	}
	claim.Status.Phase = corev1.ClaimBound
	if err := s.client.Status().Update(ctx, claim); err != nil {
		return err
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: statefulSet.Namespace, Name: component.PodName(statefulSet.Name, 0), Labels: statefulSet.Labels},
		Spec:       corev1.PodSpec{Containers: statefulSet.Spec.Template.Spec.Containers[:1]},
	}
	pod.Spec.Containers[0].VolumeMounts = nil
	if err := s.create(ctx, pod); err != nil {
		return err
	}
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: s.replicas, PodIPs: []corev1.PodIP{{IP: s.replicas}},
		Conditions:        []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		ContainerStatuses: []corev1.ContainerStatus{{Name: pod.Spec.Containers[0].Name, Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}},
	}
	if err := s.client.Status().Update(ctx, pod); err != nil {
		return err
	}
	statefulSet.Status = appsv1.StatefulSetStatus{Replicas: 1, ReadyReplicas: 1, AvailableReplicas: 1, CurrentReplicas: 1, UpdatedReplicas: 1, ObservedGeneration: statefulSet.Generation}
	return s.client.Status().Update(ctx, statefulSet)
}

// serveReport responds like a healthy replica.
func serveReport(w http.ResponseWriter, request *http.Request) {
	active := credentials.Report{SecretName: secretName, State: credentials.StateActive}
	switch {
	case strings.HasPrefix(request.URL.Path, config.CredentialsPath):
		_ = json.NewEncoder(w).Encode(active)
	case strings.HasPrefix(request.URL.Path, config.StatusPath):
		_ = json.NewEncoder(w).Encode(status.Report{
			Upstream:    status.Upstream{Host: "registry.example.com", Reachable: true},
			Storage:     status.Storage{Used: 40 << 30, Size: 100 << 30, Free: 60 << 30},
			Certificate: &status.Certificate{NotAfter: time.Now().Add(80 * 24 * time.Hour)},
			Credentials: &active,
		})
	default:
		http.NotFound(w, request)
	}
}

// hostAddress returns an address of this machine other than loopback, to which API servers do not connect. It prefers
// IPv6, since integration tests that run at the same time use this port with IPv4.
func hostAddress() (string, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	found := ""
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && network.IP.IsGlobalUnicast() && (found == "" || network.IP.To4() == nil) {
			found = network.IP.String()
		}
	}
	if found == "" {
		return "", errors.New("this machine has only loopback addresses, to which API servers do not connect")
	}
	return found, nil
}
