// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/landscape/garden"
)

var _ = DescribeTable("The pods of the charts have exactly the permissions of their charts", Label("rbac"),
	func(ctx context.Context, namespace, name string) {
		config, err := here.RESTConfig()
		Expect(err).NotTo(HaveOccurred())
		clientset, err := kubernetes.NewForConfig(config)
		Expect(err).NotTo(HaveOccurred())

		pods := &corev1.PodList{}
		Expect(c.List(ctx, pods, client.InNamespace(namespace), client.MatchingLabels{"app.kubernetes.io/name": name})).To(Succeed())
		Expect(pods.Items).NotTo(BeEmpty())
		for _, pod := range pods.Items {
			Expect(pod.Spec.ServiceAccountName).To(Equal(name))
			logs, err := clientset.CoreV1().Pods(namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
			Expect(err).NotTo(HaveOccurred())
			Expect(strings.ToLower(string(logs))).NotTo(ContainSubstring("is forbidden"), "a permission is missing")
		}

		user := "system:serviceaccount:" + namespace + ":" + name
		Expect(bindings(ctx, namespace, name)).To(ConsistOf("ClusterRoleBinding "+name, "RoleBinding "+name))
		for _, attributes := range []authorizationv1.ResourceAttributes{
			{Verb: "*", Group: "*", Resource: "*"},
			{Verb: "create", Resource: "pods", Namespace: "kube-system"},
			{Verb: "watch", Resource: "secrets", Namespace: "garden-dev"},
			{Verb: "delete", Resource: "namespaces"},
			{Verb: "impersonate", Resource: "users"},
			{Verb: "escalate", Group: rbacv1.GroupName, Resource: "clusterroles"},
		} {
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
				User:               user,
				Groups:             []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
				ResourceAttributes: &attributes,
			}}
			Expect(c.Create(ctx, review)).To(Succeed())
			Expect(review.Status.Allowed).To(BeFalse(), "%s %s", attributes.Verb, attributes.Resource)
		}
	},
	Entry("extension", garden.ExtensionNamespace, "gardener-extension-registry-cache"),
	Entry("admission", garden.AdmissionNamespace, "gardener-extension-registry-cache-admission"),
)

// bindings lists the bindings with a service account of the given name.
func bindings(ctx context.Context, namespace, name string) []string {
	GinkgoHelper()
	var found []string
	mentions := func(subjects []rbacv1.Subject) bool {
		for _, subject := range subjects {
			if subject.Kind == rbacv1.ServiceAccountKind && subject.Namespace == namespace && subject.Name == name {
				return true
			}
		}
		return false
	}

	clusterRoleBindings := &rbacv1.ClusterRoleBindingList{}
	Expect(c.List(ctx, clusterRoleBindings)).To(Succeed())
	for _, binding := range clusterRoleBindings.Items {
		if mentions(binding.Subjects) {
			found = append(found, "ClusterRoleBinding "+binding.Name)
		}
	}
	roleBindings := &rbacv1.RoleBindingList{}
	Expect(c.List(ctx, roleBindings)).To(Succeed())
	for _, binding := range roleBindings.Items {
		if mentions(binding.Subjects) {
			found = append(found, "RoleBinding "+binding.Name)
		}
	}
	return found
}
