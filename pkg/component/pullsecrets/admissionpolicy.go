// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullsecrets

import (
	"fmt"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/pullsecret"
)

const policyName = Name + ".extensions.gardener.cloud"

// admissionPolicy returns the policy for the Secrets that the controller creates. Roles can restrict neither their
// names nor their types: with a Secret of type kubernetes.io/service-account-token, the controller could get the token
// of any ServiceAccount.
func admissionPolicy(values Values) []client.Object {
	meta := metav1.ObjectMeta{Name: policyName, Labels: labels()}
	return []client.Object{
		&admissionregistrationv1.ValidatingAdmissionPolicy{
			ObjectMeta: meta,
			Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
				FailurePolicy: new(admissionregistrationv1.Fail),
				MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
					RuleWithOperations: admissionregistrationv1.RuleWithOperations{
						Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
						Rule:       admissionregistrationv1.Rule{APIGroups: []string{corev1.GroupName}, APIVersions: []string{"v1"}, Resources: []string{"secrets"}},
					},
				}}},
				MatchConditions: []admissionregistrationv1.MatchCondition{{
					Name:       "controller",
					Expression: fmt.Sprintf("request.userInfo.username == 'system:serviceaccount:%s:%s'", pullsecret.Namespace, Name),
				}},
				Validations: []admissionregistrationv1.Validation{{
					Expression: permitted(values.Feed),
					Message:    "the controller of pull secrets may only write these",
				}},
			},
		},
		&admissionregistrationv1.ValidatingAdmissionPolicyBinding{
			ObjectMeta: meta,
			Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
				PolicyName:        policyName,
				ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
			},
		},
	}
}

// permitted returns the expression for the Secrets that the controller may write.
func permitted(feed pullsecret.Feed) string {
	expression := fmt.Sprintf("object.metadata.name in [%s] && object.type == '%s'", list(feed.Names()), corev1.SecretTypeDockerConfigJson)
	caches := feed.Caches()
	passwords := make([]string, len(caches))
	for i, cache := range caches {
		passwords[i] = pullsecret.AccountsSecretName(cache)
	}
	if len(passwords) > 0 {
		expression += fmt.Sprintf(" || object.metadata.namespace == '%s' && object.metadata.name in [%s] && object.type == '%s'",
			pullsecret.Namespace, list(passwords), corev1.SecretTypeOpaque)
	}
	return expression
}

// list returns names as a list of texts. DNS subdomains have no quotes.
func list(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = "'" + name + "'"
	}
	return strings.Join(quoted, ", ")
}
