// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullsecrets

import (
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/larder-project/larder/pkg/pullsecret"
)

const (
	// user is the user and group ID of the controller.
	user = 65532

	portName      = "debug"
	containerName = "pull-secrets"
	// memoryTarget is the soft memory limit of the Go runtime. A thousand namespaces with a pull secret take a few MiB.
	memoryTarget = "64MiB"
)

// statefulSet returns the StatefulSet that runs the controller. It runs one pod at most at a time, so the controller
// needs no leader election, and the pod has a name by which its report is read. While it does not run, pull secrets
// stay as they are.
func statefulSet(values Values) *appsv1.StatefulSet {
	podLabels := labels()
	podLabels["app.kubernetes.io/name"] = Name
	for _, label := range []string{
		v1beta1constants.LabelNetworkPolicyToDNS,
		v1beta1constants.LabelNetworkPolicyShootToAPIServer,
		v1beta1constants.LabelNetworkPolicyToPublicNetworks, // For the services that issue credentials.
	} {
		podLabels[label] = v1beta1constants.LabelNetworkPolicyAllowed
	}
	return &appsv1.StatefulSet{
		ObjectMeta: objectMeta(),
		Spec: appsv1.StatefulSetSpec{
			Replicas:             new(int32(1)),
			RevisionHistoryLimit: new(int32(2)),
			Selector:             &metav1.LabelSelector{MatchLabels: labels()},
			UpdateStrategy:       appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: podLabels},
				Spec: corev1.PodSpec{
					ServiceAccountName:           Name,
					AutomountServiceAccountToken: new(true),
					EnableServiceLinks:           new(false),
					PriorityClassName:            "system-cluster-critical",
					Containers:                   []corev1.Container{container(values)},
					SecurityContext: &corev1.PodSecurityContext{
						RunAsNonRoot:   new(true),
						RunAsUser:      new(int64(user)),
						RunAsGroup:     new(int64(user)),
						FSGroup:        new(int64(user)),
						SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
					},
				},
			},
		},
	}
}

// container returns the container of the controller. Without a feed it is not ready; a restart would not fix that.
func container(values Values) corev1.Container {
	return corev1.Container{
		Name:            containerName,
		Image:           values.Image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Env:             []corev1.EnvVar{{Name: "GOMEMLIMIT", Value: memoryTarget}},
		Ports:           []corev1.ContainerPort{{Name: portName, ContainerPort: pullsecret.Port, Protocol: corev1.ProtocolTCP}},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("5m"),
				corev1.ResourceMemory: resource.MustParse("32Mi"),
			},
		},
		ReadinessProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: pullsecret.HealthPath, Port: intstr.FromString(portName), Scheme: corev1.URISchemeHTTP,
			}},
			PeriodSeconds:    5,
			TimeoutSeconds:   5,
			FailureThreshold: 3,
		},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			ReadOnlyRootFilesystem:   new(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
}
