// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package readiness_test

import (
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/controller/readiness"
	"github.com/larder-project/larder/pkg/pullsecret"
)

var _ = Describe("PullSecret", func() {
	status := registry.PullSecretStatus{Name: "pulls", SecretNames: []string{"v1"}}
	reportOf := func(secret pullsecret.SecretReport) *pullsecret.Report {
		secret.Name = "pulls"
		return &pullsecret.Report{Feed: "x", Secrets: []pullsecret.SecretReport{{Name: "other", Credential: "not mine"}, secret}}
	}

	DescribeTable("says", func(status registry.PullSecretStatus, problem readiness.Problem, report *pullsecret.Report, expected metav1.ConditionStatus, reason readiness.Reason, message string) {
		condition, ok := readiness.PullSecret(status, problem, report)
		Expect(ok).To(BeTrue())
		Expect(condition.Type).To(Equal("PullSecretReady"))
		Expect(condition.Status).To(Equal(expected))
		Expect(condition.Reason).To(Equal(string(reason)))
		Expect(condition.Message).To(ContainSubstring(message))
	},
		Entry("ready", status, readiness.Problem{}, &pullsecret.Report{Feed: "x"}, metav1.ConditionTrue, readiness.PullSecretReady, `All namespaces have pull secret "pulls".`),
		Entry("no accepted credential", registry.PullSecretStatus{Name: "pulls"}, readiness.Problem{}, &pullsecret.Report{Feed: "x"}, metav1.ConditionUnknown, readiness.PullSecretPending, "waits until the upstream has accepted the credential"),
		Entry("no controller", status, readiness.Problem{Reason: readiness.ReplicaMissing, Message: "Pod x does not exist."}, nil, metav1.ConditionFalse, readiness.ReplicaMissing, "its controller does not work. Pod x does not exist."),
		Entry("one foreign Secret", status, readiness.Problem{}, reportOf(pullsecret.SecretReport{Foreign: pullsecret.Namespaces{Listed: []string{"team-a"}, Count: 1}}),
			metav1.ConditionFalse, readiness.ForeignSecret, `Pull secret "pulls" is missing in namespace team-a: a Secret with this name exists there`),
		Entry("many foreign Secrets", status, readiness.Problem{}, reportOf(pullsecret.SecretReport{Foreign: pullsecret.Namespaces{Listed: []string{"a", "b"}, Count: 7}}),
			metav1.ConditionFalse, readiness.ForeignSecret, "is missing in namespaces a, b and 5 more:"),
		Entry("a foreign Secret before other problems", status, readiness.Problem{}, reportOf(pullsecret.SecretReport{Credential: "x", Foreign: pullsecret.Namespaces{Listed: []string{"a"}, Count: 1}}),
			metav1.ConditionFalse, readiness.ForeignSecret, "namespace a"),
		Entry("a failure to write", status, readiness.Problem{}, reportOf(pullsecret.SecretReport{Reason: "Forbidden", Failed: pullsecret.Namespaces{Listed: []string{"a"}, Count: 1}}),
			metav1.ConditionFalse, readiness.PullSecretFailed, "could not be written in namespace a (Forbidden)"),
		Entry("a failure to issue", status, readiness.Problem{}, reportOf(pullsecret.SecretReport{Credential: "sts: AssumeRole: AccessDenied"}),
			metav1.ConditionFalse, readiness.CredentialNotIssued, "could not be issued (sts: AssumeRole: AccessDenied)"),
	)

	DescribeTable("knows nothing new", func(report *pullsecret.Report) {
		_, ok := readiness.PullSecret(status, readiness.Problem{}, report)
		Expect(ok).To(BeFalse())
	},
		Entry("without a report", nil),
		Entry("from a controller without a feed", &pullsecret.Report{}),
		Entry("while namespaces do not follow yet", &pullsecret.Report{Feed: "x", Outstanding: 1}),
	)

	It("does not trust the texts of a report", func() {
		condition, ok := readiness.PullSecret(status, readiness.Problem{}, reportOf(pullsecret.SecretReport{
			Foreign: pullsecret.Namespaces{Listed: []string{"a\nb", strings.Repeat("x", 10_000), "Visit https://example.com"}, Count: 3},
		}))
		Expect(ok).To(BeTrue())
		Expect(condition.Message).To(ContainSubstring("in 3 namespaces:"))
		condition, _ = readiness.PullSecret(status, readiness.Problem{}, reportOf(pullsecret.SecretReport{Credential: strings.Repeat("x\n", 10_000)}))
		Expect(len(condition.Message)).To(BeNumerically("<", 300))
		Expect(condition.Message).NotTo(ContainSubstring("\n"))
	})
})
