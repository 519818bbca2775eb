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
	names := make([]string, 0, len(values.Feed.Secrets))
	for _, name := range values.Feed.Names() {
		names = append(names, "'"+name+"'") // A DNS subdomain has no quotes.
	}
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
					Expression: fmt.Sprintf("object.metadata.name in [%s] && object.type == '%s'", strings.Join(names, ", "), corev1.SecretTypeDockerConfigJson),
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
