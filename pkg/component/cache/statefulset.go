// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// PodManagementPolicy is that of the StatefulSets of caches: replicas are independent, so none has to wait for another.
const PodManagementPolicy = appsv1.ParallelPodManagement

// StatefulSet returns the StatefulSet that runs the cache server.
//
// Claims outlive replicas and the StatefulSet itself: a change of an immutable field re-creates the StatefulSet without
// touching pods and claims, and a StatefulSet that is scaled to zero must have a warm cache afterwards. The
// ManagedResource deletes the claims with the cache, and the controller deletes those of [SurplusClaims].
func StatefulSet(values Values) (*appsv1.StatefulSet, error) {
	template, err := podTemplate(values)
	if err != nil {
		return nil, err
	}
	meta := values.objectMeta(values.Name())
	meta.Annotations = values.secretNameAnnotations()
	return &appsv1.StatefulSet{
		ObjectMeta: meta,
		Spec: appsv1.StatefulSetSpec{
			ServiceName:          values.ServiceName(),
			Replicas:             new(values.Replicas()),
			RevisionHistoryLimit: new(int32(2)),
			Selector:             &metav1.LabelSelector{MatchLabels: Labels(values.upstream())},
			PodManagementPolicy:  PodManagementPolicy,
			UpdateStrategy:       appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType},
			PersistentVolumeClaimRetentionPolicy: &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
				WhenDeleted: appsv1.RetainPersistentVolumeClaimRetentionPolicyType,
				WhenScaled:  appsv1.RetainPersistentVolumeClaimRetentionPolicyType,
			},
			Template:             template,
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{volumeClaimTemplate(values)},
		},
	}, nil
}

// Replicas is the number of replicas of the cache.
func (v Values) Replicas() int32 {
	if v.Cache.HighAvailability.Enabled {
		return MaxReplicas
	}
	return 1
}

// SurplusClaims returns the names of the claims that a cache no longer needs if it is not highly available.
func SurplusClaims(values Values) []string {
	var names []string
	for ordinal := values.Replicas(); ordinal < MaxReplicas; ordinal++ {
		names = append(names, ClaimName(values.Name(), int(ordinal)))
	}
	return names
}

func podTemplate(values Values) (corev1.PodTemplateSpec, error) {
	annotations, err := restartAnnotations(values)
	if err != nil {
		return corev1.PodTemplateSpec{}, err
	}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: podLabels(values), Annotations: annotations},
		Spec:       podSpec(values),
	}, nil
}

func volumeClaimTemplate(values Values) corev1.PersistentVolumeClaim {
	return corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: VolumeClaimTemplate},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			StorageClassName: values.Cache.Volume.StorageClassName,
			Resources: corev1.VolumeResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceStorage: *values.Cache.Volume.Size},
			},
		},
	}
}

// ClaimName returns the name of the claim of the replica with the given ordinal.
func ClaimName(statefulSet string, ordinal int) string {
	return fmt.Sprintf("%s-%s-%d", VolumeClaimTemplate, statefulSet, ordinal)
}

func containerPort(name string, port int32) corev1.ContainerPort {
	return corev1.ContainerPort{Name: name, ContainerPort: port, Protocol: corev1.ProtocolTCP}
}

func httpGet(path, port string, scheme corev1.URIScheme) corev1.ProbeHandler {
	return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString(port), Scheme: scheme}}
}
