// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullsecrets

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/pullsecret"
)

// rbac returns the identity of the controller and its permissions. It reads Secrets, and lists and watches them, only
// by name: those of pull secrets in all namespaces, and the feed. What it may create, the admission policy restricts.
func rbac(values Values) []client.Object {
	names, caches := values.Feed.Names(), values.Feed.Caches()
	owners := make([]client.Object, 0, 2*len(names)+2*len(caches))
	for _, name := range names {
		owners = append(owners, owner(name), clusterRoleBinding(pullsecret.OwnerName(name)))
	}
	for _, cache := range caches {
		role := accountsRole(cache)
		owners = append(owners, role, roleBinding(role.ObjectMeta))
	}
	return append([]client.Object{
		&corev1.ServiceAccount{ObjectMeta: objectMeta(), AutomountServiceAccountToken: new(false)},
		&rbacv1.Role{
			ObjectMeta: objectMeta(),
			Rules: []rbacv1.PolicyRule{{
				APIGroups: []string{corev1.GroupName}, Resources: []string{"secrets"}, ResourceNames: []string{pullsecret.FeedName},
				Verbs: []string{"get", "list", "watch"},
			}},
		},
		roleBinding(objectMeta()),
		&rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{Name: clusterRoleName, Labels: labels()},
			Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{corev1.GroupName}, Resources: []string{"namespaces"}, Verbs: []string{"list", "watch"}},
				{APIGroups: []string{corev1.GroupName}, Resources: []string{"secrets"}, Verbs: []string{"create"}},
				{
					APIGroups: []string{corev1.GroupName}, Resources: []string{"serviceaccounts"},
					ResourceNames: []string{pullsecret.DefaultServiceAccount}, Verbs: []string{"list", "watch", "patch"},
				},
				{APIGroups: []string{"events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},
			},
		},
		clusterRoleBinding(clusterRoleName),
	}, owners...)
}

// owner returns the ClusterRole for the pull secrets with a name, which also owns them: Kubernetes deletes them after
// it. To set itself as the owner, the controller reads its UID.
func owner(secret string) *rbacv1.ClusterRole {
	name := pullsecret.OwnerName(secret)
	return &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels()},
		Rules: []rbacv1.PolicyRule{
			{
				APIGroups: []string{corev1.GroupName}, Resources: []string{"secrets"}, ResourceNames: []string{secret},
				Verbs: []string{"get", "list", "watch", "patch", "delete"},
			},
			{
				APIGroups: []string{rbacv1.GroupName}, Resources: []string{"clusterroles"}, ResourceNames: []string{name},
				Verbs: []string{"get"},
			},
		},
	}
}

// accountsRole returns the Role for the Secret with the passwords of a cache's accounts, which also owns that Secret.
func accountsRole(cache string) *rbacv1.Role {
	name := pullsecret.AccountsSecretName(cache)
	return &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: pullsecret.Namespace, Labels: labels()},
		Rules: []rbacv1.PolicyRule{
			{
				APIGroups: []string{corev1.GroupName}, Resources: []string{"secrets"}, ResourceNames: []string{name},
				Verbs: []string{"get", "update"},
			},
			{
				APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles"}, ResourceNames: []string{name},
				Verbs: []string{"get"},
			},
		},
	}
}

func roleBinding(role metav1.ObjectMeta) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: role,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name},
		Subjects:   subjects(),
	}
}

func clusterRoleBinding(role string) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role, Labels: labels()},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   subjects(),
	}
}

func subjects() []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: Name, Namespace: pullsecret.Namespace}}
}
