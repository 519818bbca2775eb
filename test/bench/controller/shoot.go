// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
)

const (
	// secretName is the name of the Secret with the credential. It is the same in all Shoots, since they share a
	// kube-system.
	secretName = "robot"

	caches = `{"upstream":"docker.io","volume":{"size":"100Gi"}},{"upstream":"ghcr.io"},` +
		`{"upstream":"registry.example.com","secretReferenceName":"robot"}`
)

// shoot is what gardenlet writes into a seed for a Shoot.
type shoot struct {
	namespace string
	// caches are those of the configuration, in JSON.
	caches string
	// withoutSecret means that the Secret with the credential is missing.
	withoutSecret bool
	// certificates are Secrets of the extension from an earlier reconciliation.
	certificates []corev1.Secret
	// address is that of the API server. If it is empty, that is the one of this program.
	address string
}

func (s *shoot) user() string { return shootUser + s.namespace }

func newShoots(prefix string, number int, change func(*shoot)) []*shoot {
	shoots := make([]*shoot, 0, number)
	for i := range number {
		s := &shoot{namespace: fmt.Sprintf("shoot--bench--%s%d", prefix, i), caches: caches}
		change(s)
		shoots = append(shoots, s)
	}
	return shoots
}

// create creates the objects of the Shoot and requests its reconciliation. It returns the size of the Cluster.
func (s *shoot) create(ctx context.Context, server *server, machineTypes int) (int, error) {
	kubeconfig, err := server.kubeconfig(s.user(), s.address)
	if err != nil {
		return 0, err
	}
	cluster, size, err := s.cluster(machineTypes)
	if err != nil {
		return 0, err
	}
	objects := []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name:   s.namespace,
			Labels: map[string]string{v1beta1constants.GardenRole: v1beta1constants.GardenRoleShoot},
		}},
		cluster,
		&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1beta1constants.SecretNameGardener},
			Data:       map[string][]byte{"kubeconfig": kubeconfig},
		},
	}
	if !s.withoutSecret {
		objects = append(objects, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1beta1constants.ReferencedResourcesPrefix + secretName},
			Immutable:  new(true),
			Data:       map[string][]byte{"username": []byte("robot"), "password": []byte("hunter2")},
		})
	}
	for _, certificate := range s.certificates {
		certificate.ObjectMeta = metav1.ObjectMeta{Namespace: s.namespace, Name: certificate.Name, Labels: certificate.Labels}
		objects = append(objects, &certificate)
	}
	objects = append(objects, s.extension())
	for _, object := range objects {
		if err := server.client.Create(ctx, object); err != nil {
			return 0, fmt.Errorf("create %T %s: %w", object, client.ObjectKeyFromObject(object), err)
		}
	}
	return size, nil
}

func (s *shoot) extension() *extensionsv1alpha1.Extension {
	return &extensionsv1alpha1.Extension{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   s.namespace,
			Name:        registry.ExtensionType,
			Annotations: map[string]string{v1beta1constants.GardenerOperation: v1beta1constants.GardenerOperationReconcile},
		},
		Spec: extensionsv1alpha1.ExtensionSpec{DefaultSpec: extensionsv1alpha1.DefaultSpec{
			Type: registry.ExtensionType,
			ProviderConfig: &runtime.RawExtension{Raw: []byte(
				`{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[` + s.caches + `]}`)},
		}},
	}
}

// request requests a reconciliation that changes nothing. Timestamps in a status are too coarse to distinguish it from
// an earlier one, so each has a generation of its own, through a field that the extension does not know.
func (s *shoot) request(ctx context.Context, c client.Client) error {
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}},"spec":{"providerConfig":{"request":%q}}}`,
		v1beta1constants.GardenerOperation, v1beta1constants.GardenerOperationReconcile, rand.Text())
	ex := &extensionsv1alpha1.Extension{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: registry.ExtensionType}}
	return c.Patch(ctx, ex, client.RawPatch(types.MergePatchType, []byte(patch)))
}

// await waits until the requested reconciliation has succeeded.
func (s *shoot) await(ctx context.Context, c client.Client) error {
	ex := &extensionsv1alpha1.Extension{}
	return wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		if err := c.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: registry.ExtensionType}, ex); err != nil {
			return false, err
		}
		return succeeded(ex), nil
	})
}

func succeeded(ex *extensionsv1alpha1.Extension) bool {
	return ex.Status.ObservedGeneration == ex.Generation &&
		ex.Status.LastOperation != nil && ex.Status.LastOperation.State == gardencorev1beta1.LastOperationStateSucceeded
}

// cluster returns the Cluster and its size in bytes.
func (s *shoot) cluster(machineTypes int) (*extensionsv1alpha1.Cluster, int, error) {
	size := 0
	raw := func(object any) (runtime.RawExtension, error) {
		data, err := json.Marshal(object)
		size += len(data)
		return runtime.RawExtension{Raw: data}, err
	}
	cluster := &extensionsv1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}
	var err error
	if cluster.Spec.Shoot, err = raw(s.object()); err != nil {
		return nil, 0, err
	}
	if cluster.Spec.CloudProfile, err = raw(newCloudProfile(machineTypes)); err != nil {
		return nil, 0, err
	}
	seed, err := raw(newSeed())
	cluster.Spec.Seed = &seed
	return cluster, size, err
}

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: gardencorev1beta1.SchemeGroupVersion.String(), Kind: kind}
}

// object returns the Shoot, with a status as it is after some months.
func (s *shoot) object() *gardencorev1beta1.Shoot {
	now := metav1.Now()
	object := &gardencorev1beta1.Shoot{
		TypeMeta: typeMeta("Shoot"),
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "garden-bench", Name: strings.TrimPrefix(s.namespace, "shoot--bench--"), UID: "6c9d2d4e-7a53-4d3f-8a57-8dbf5f3c9f0e",
			Annotations: map[string]string{"gardener.cloud/created-by": "owner@example.com", "shoot.gardener.cloud/tasks": ""},
			Finalizers:  []string{"gardener", "gardener.cloud/reference-protection"},
		},
		Spec: gardencorev1beta1.ShootSpec{
			CloudProfile: &gardencorev1beta1.CloudProfileReference{Kind: "CloudProfile", Name: "bench"},
			Region:       "region-1",
			SeedName:     new("bench"),
			Kubernetes:   gardencorev1beta1.Kubernetes{Version: "1.36.3"},
			Networking:   &gardencorev1beta1.Networking{Type: new("calico"), Nodes: new("10.180.0.0/16"), Pods: new("100.64.0.0/12"), Services: new("100.104.0.0/13")},
			Extensions:   []gardencorev1beta1.Extension{{Type: registry.ExtensionType, ProviderConfig: s.extension().Spec.ProviderConfig}},
			Resources: []gardencorev1beta1.NamedResourceReference{{
				Name: "robot", ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "Secret", Name: secretName},
			}},
		},
		Status: gardencorev1beta1.ShootStatus{
			LastOperation:       &gardencorev1beta1.LastOperation{Type: "Reconcile", State: "Succeeded", Progress: 100, LastUpdateTime: now, Description: "Shoot cluster has been successfully reconciled."},
			TechnicalID:         s.namespace,
			UID:                 "6c9d2d4e-7a53-4d3f-8a57-8dbf5f3c9f0e",
			ClusterIdentity:     new(s.namespace + "-6c9d2d4e-7a53-4d3f-8a57-8dbf5f3c9f0e-bench"),
			AdvertisedAddresses: []gardencorev1beta1.ShootAdvertisedAddress{{Name: "external", URL: "https://api.bench.example.com"}},
		},
	}
	for i := range 4 {
		worker := gardencorev1beta1.Worker{
			Name: fmt.Sprintf("pool-%d", i), Minimum: 1, Maximum: 20, Zones: []string{"region-1a", "region-1b", "region-1c"},
			Machine: gardencorev1beta1.Machine{Type: "type-4", Architecture: new("amd64"), Image: &gardencorev1beta1.ShootMachineImage{Name: "image-1", Version: new("1592.1.0")}},
			Labels:  map[string]string{}, Annotations: map[string]string{},
			Volume: &gardencorev1beta1.Volume{Type: new("gp3"), VolumeSize: "50Gi"},
		}
		for j := range 8 {
			worker.Labels[fmt.Sprintf("example.com/label-%d", j)] = fmt.Sprintf("a value that the owner has chosen for pool %d", i)
		}
		object.Spec.Provider.Workers = append(object.Spec.Provider.Workers, worker)
	}
	for _, name := range []string{"APIServerAvailable", "ControlPlaneHealthy", "ObservabilityComponentsHealthy", "EveryNodeReady", "SystemComponentsHealthy", "HibernationPossible", "MaintenancePreconditionsSatisfied", "CACertificateValiditiesAcceptable", "CRDsWithProblematicConversionWebhooks"} {
		condition := gardencorev1beta1.Condition{
			Type: gardencorev1beta1.ConditionType(name), Status: gardencorev1beta1.ConditionTrue, LastTransitionTime: now, LastUpdateTime: now,
			Reason: name, Message: "All components are running, all webhooks are properly configured, and all constraints are satisfied.",
		}
		object.Status.Conditions = append(object.Status.Conditions, condition)
		object.Status.Constraints = append(object.Status.Constraints, condition)
	}
	return object
}

func newCloudProfile(machineTypes int) *gardencorev1beta1.CloudProfile {
	profile := &gardencorev1beta1.CloudProfile{TypeMeta: typeMeta("CloudProfile"), ObjectMeta: metav1.ObjectMeta{Name: "bench"}}
	for i := range machineTypes {
		profile.Spec.MachineTypes = append(profile.Spec.MachineTypes, gardencorev1beta1.MachineType{
			Name: fmt.Sprintf("type-%d", i), CPU: resource.MustParse("4"), GPU: resource.MustParse("0"), Memory: resource.MustParse("16Gi"),
			Usable: new(true), Architecture: new("amd64"),
			Storage: &gardencorev1beta1.MachineTypeStorage{Class: "standard", Type: "gp3", StorageSize: new(resource.MustParse("50Gi"))},
		})
	}
	for i := range 8 {
		image := gardencorev1beta1.MachineImage{Name: fmt.Sprintf("image-%d", i)}
		for j := range 30 {
			image.Versions = append(image.Versions, gardencorev1beta1.MachineImageVersion{
				ExpirableVersion: gardencorev1beta1.ExpirableVersion{Version: fmt.Sprintf("%d.1.0", 1500+j), Lifecycle: []gardencorev1beta1.LifecycleStage{{Classification: gardencorev1beta1.ClassificationSupported}}},
				CRI:              []gardencorev1beta1.CRI{{Name: "containerd", ContainerRuntimes: []gardencorev1beta1.ContainerRuntime{{Type: "gvisor"}}}},
				Architectures:    []string{"amd64", "arm64"},
			})
		}
		profile.Spec.MachineImages = append(profile.Spec.MachineImages, image)
	}
	for i := range 20 {
		region := gardencorev1beta1.Region{Name: fmt.Sprintf("region-%d", i)}
		for _, zone := range []string{"a", "b", "c"} {
			region.Zones = append(region.Zones, gardencorev1beta1.AvailabilityZone{Name: region.Name + zone, UnavailableMachineTypes: []string{"type-1", "type-2", "type-3"}})
		}
		profile.Spec.Regions = append(profile.Spec.Regions, region)
	}
	return profile
}

func newSeed() *gardencorev1beta1.Seed {
	seed := &gardencorev1beta1.Seed{TypeMeta: typeMeta("Seed"), ObjectMeta: metav1.ObjectMeta{Name: "bench"}}
	for i := range 20 {
		seed.Status.Conditions = append(seed.Status.Conditions, gardencorev1beta1.Condition{
			Type: gardencorev1beta1.ConditionType(fmt.Sprintf("Condition%d", i)), Status: gardencorev1beta1.ConditionTrue,
			Reason: "Healthy", Message: "The components of the seed are healthy.", LastTransitionTime: metav1.Now(), LastUpdateTime: metav1.Now(),
		})
	}
	return seed
}
