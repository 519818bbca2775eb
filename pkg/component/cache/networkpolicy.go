// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// NetworkPolicy returns the policy for traffic to a cache. Nodes are not pods, and their addresses as seen by a policy
// depend on the network plugin, so the registry port is open to all. Metrics are for Gardener's Prometheus, which
// connects through the VPN. Gardener's own policies cover the traffic from a cache; the labels of the pods select them.
func NetworkPolicy(values Values) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: values.objectMeta(values.Name()),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: Labels(values.upstream())},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{
				{
					Ports: networkPolicyPorts(portName),
				},
				{
					Ports: networkPolicyPorts(DebugPortName),
					From: []networkingv1.NetworkPolicyPeer{{
						PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{labelApp: "vpn-shoot"}},
					}},
				},
			},
		},
	}
}

func networkPolicyPorts(name string) []networkingv1.NetworkPolicyPort {
	return []networkingv1.NetworkPolicyPort{{Protocol: new(corev1.ProtocolTCP), Port: new(intstr.FromString(name))}}
}
