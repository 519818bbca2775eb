// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"github.com/Masterminds/semver/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/larder-project/larder/pkg/cacheserver/config"
)

const (
	portName = "registry-cache"
	// DebugPortName is the name of the port that serves metrics and the state of the server.
	DebugPortName = "debug"
)

var atLeast134 = mustConstraint(">= 1.34-0")

// Service returns the Service through which the nodes reach a cache. It uses only the cache and the Kubernetes version
// of the values.
func Service(values Values) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: values.objectMeta(values.ServiceName()),
		Spec: corev1.ServiceSpec{
			Type:     corev1.ServiceTypeClusterIP,
			Selector: Labels(values.upstream()),
			Ports: []corev1.ServicePort{
				servicePort(portName, config.Port),
				servicePort(DebugPortName, config.DebugPort),
			},
			TrafficDistribution: trafficDistribution(values.KubernetesVersion),
		},
	}
}

func servicePort(name string, port int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: port, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString(name)}
}

// trafficDistribution keeps pulls within the zone of the node if a replica runs there, since traffic between zones is
// slower and usually charged. PreferSameZone replaces the deprecated PreferClose since Kubernetes 1.34.
func trafficDistribution(kubernetesVersion *semver.Version) *string {
	if atLeast134.Check(kubernetesVersion) {
		return new(corev1.ServiceTrafficDistributionPreferSameZone)
	}
	return new(corev1.ServiceTrafficDistributionPreferClose)
}

func mustConstraint(constraint string) *semver.Constraints {
	constraints, err := semver.NewConstraint(constraint)
	if err != nil {
		panic(err)
	}
	return constraints
}
