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
	cacheOf := func(published ...string) registry.RegistryCacheStatus {
		return registry.RegistryCacheStatus{
			Credentials: &registry.CredentialsStatus{SecretName: "v1"}, PullSecret: &registry.PullSecretStatus{Name: "pulls", SecretNames: published},
		}
	}
	cache := cacheOf("v1")
	// withTeams has the same cache with credentials for teams.
	withTeams := func(published ...string) registry.RegistryCacheStatus {
		cache := cacheOf(published...)
		for _, team := range []string{"team-a", "team-b"} {
			cache.RepositoryCredentials = append(cache.RepositoryCredentials, registry.RepositoryCredentialStatus{
				Repositories: []string{team, "shared/" + team}, Credentials: registry.CredentialsStatus{SecretName: team},
			})
		}
		return cache
	}
	reportOf := func(secret pullsecret.SecretReport) *pullsecret.Report {
		secret.Name = "pulls"
		return &pullsecret.Report{Feed: "x", Secrets: []pullsecret.SecretReport{{Name: "other", Credential: "not mine"}, secret}}
	}

	DescribeTable("says", func(cache registry.RegistryCacheStatus, problem readiness.Problem, report *pullsecret.Report, expected metav1.ConditionStatus, reason readiness.Reason, message string) {
		condition := readiness.PullSecret(cache, problem, report, "x")
		Expect(condition.Type).To(Equal("PullSecretReady"))
		Expect(condition.Status).To(Equal(expected))
		Expect(condition.Reason).To(Equal(string(reason)))
		Expect(condition.Message).To(ContainSubstring(message))
	},
		Entry("ready", cache, readiness.Problem{}, &pullsecret.Report{Feed: "x"}, metav1.ConditionTrue, readiness.PullSecretReady, `All namespaces have pull secret "pulls".`),
		Entry("no accepted credential", cacheOf(), readiness.Problem{}, &pullsecret.Report{Feed: "x"}, metav1.ConditionUnknown, readiness.PullSecretPending, "waits until the upstream has accepted the credential"),
		Entry("no controller", cache, readiness.Problem{Reason: readiness.ReplicaMissing, Message: "Pod x does not exist."}, nil, metav1.ConditionFalse, readiness.ReplicaMissing, "its controller does not work. Pod x does not exist."),
		Entry("one foreign Secret", cache, readiness.Problem{}, reportOf(pullsecret.SecretReport{Foreign: pullsecret.Namespaces{Listed: []string{"team-a"}, Count: 1}}),
			metav1.ConditionFalse, readiness.ForeignSecret, `Pull secret "pulls" is missing in namespace team-a: a Secret with this name exists there`),
		Entry("many foreign Secrets", cache, readiness.Problem{}, reportOf(pullsecret.SecretReport{Foreign: pullsecret.Namespaces{Listed: []string{"a", "b"}, Count: 7}}),
			metav1.ConditionFalse, readiness.ForeignSecret, "is missing in namespaces a, b and 5 more:"),
		Entry("a credential that cannot be issued, before other problems", cache, readiness.Problem{}, reportOf(pullsecret.SecretReport{Credential: "x", Foreign: pullsecret.Namespaces{Listed: []string{"a"}, Count: 1}}),
			metav1.ConditionFalse, readiness.CredentialNotIssued, "could not be issued"),
		Entry("the problem of most namespaces", cache, readiness.Problem{}, reportOf(pullsecret.SecretReport{
			Failed: pullsecret.Namespaces{Listed: []string{"a", "b"}, Count: 2}, Foreign: pullsecret.Namespaces{Listed: []string{"c"}, Count: 1},
		}), metav1.ConditionFalse, readiness.PullSecretFailed, "namespaces a, b"),
		Entry("a foreign Secret in more namespaces", cache, readiness.Problem{}, reportOf(pullsecret.SecretReport{
			Failed: pullsecret.Namespaces{Listed: []string{"a"}, Count: 1}, Foreign: pullsecret.Namespaces{Listed: []string{"b", "c"}, Count: 2},
		}), metav1.ConditionFalse, readiness.ForeignSecret, "namespaces b, c"),
		Entry("a failure to reference", cache, readiness.Problem{}, &pullsecret.Report{Feed: "x", ReferencesReason: "Forbidden", Secrets: []pullsecret.SecretReport{
			{Name: "pulls", Unreferenced: pullsecret.Namespaces{Listed: []string{"a"}, Count: 1}},
		}}, metav1.ConditionFalse, readiness.PullSecretFailed, "could not be added to the ServiceAccount default in namespace a (Forbidden)"),
		Entry("no report", cache, readiness.Problem{}, nil, metav1.ConditionUnknown, readiness.ReportsMissing, "has not reported"),
		Entry("no feed yet", cache, readiness.Problem{}, &pullsecret.Report{}, metav1.ConditionUnknown, readiness.PullSecretPending, "has been changed"),
		Entry("an old feed, whatever its problems", cache, readiness.Problem{}, &pullsecret.Report{Feed: "old", Secrets: []pullsecret.SecretReport{{Name: "pulls", Credential: "x"}}},
			metav1.ConditionUnknown, readiness.PullSecretPending, "has been changed"),
		Entry("namespaces that do not follow yet", cache, readiness.Problem{}, &pullsecret.Report{Feed: "x", Outstanding: 1}, metav1.ConditionUnknown, readiness.PullSecretPending, "has been changed"),
		Entry("a credential that is being issued", cache, readiness.Problem{}, &pullsecret.Report{Feed: "x", Unissued: 1}, metav1.ConditionUnknown, readiness.PullSecretPending, "has been changed"),
		Entry("credentials that the upstream has not accepted", withTeams("v1"), readiness.Problem{}, &pullsecret.Report{Feed: "x"},
			metav1.ConditionUnknown, readiness.PullSecretPending, "waits until the upstream has accepted the credential for team-a, team-b."),
		Entry("a missing credential for all other repositories", withTeams("team-a", "team-b"), readiness.Problem{}, &pullsecret.Report{Feed: "x"},
			metav1.ConditionUnknown, readiness.PullSecretPending, "for all other repositories."),
		Entry("ready during a rotation", withTeams("v0", "team-a", "team-b"), readiness.Problem{}, &pullsecret.Report{Feed: "x"}, metav1.ConditionTrue, readiness.PullSecretReady, "All namespaces"),
		Entry("a failure to write", cache, readiness.Problem{}, reportOf(pullsecret.SecretReport{Reason: "Forbidden", Failed: pullsecret.Namespaces{Listed: []string{"a"}, Count: 1}}),
			metav1.ConditionFalse, readiness.PullSecretFailed, "could not be written in namespace a (Forbidden)"),
		Entry("a failure to issue", cache, readiness.Problem{}, reportOf(pullsecret.SecretReport{Credential: "sts: AssumeRole: AccessDenied"}),
			metav1.ConditionFalse, readiness.CredentialNotIssued, "could not be issued (sts: AssumeRole: AccessDenied)"),
	)

	accounts := []registry.AccountStatus{{Name: "builder", SecretName: "registry-x.builder"}, {Name: "scanner", SecretName: "registry-x.scanner"}}
	accountsOf := func(secrets ...pullsecret.SecretReport) *pullsecret.Report {
		return &pullsecret.Report{Feed: "x", Secrets: append([]pullsecret.SecretReport{{Name: "other", Credential: "not mine"}}, secrets...)}
	}
	DescribeTable("describes accounts", func(problem readiness.Problem, report *pullsecret.Report, expected metav1.ConditionStatus, reason readiness.Reason, message string) {
		condition := readiness.Accounts(accounts, problem, report, "x")
		Expect(condition.Type).To(Equal("AccountsReady"))
		Expect(condition.Status).To(Equal(expected))
		Expect(condition.Reason).To(Equal(string(reason)))
		Expect(condition.Message).To(ContainSubstring(message))
	},
		Entry("ready", readiness.Problem{}, accountsOf(), metav1.ConditionTrue, readiness.AccountsReady, "All namespaces have the Secrets of the accounts."),
		Entry("before servers have the password", readiness.Problem{}, accountsOf(pullsecret.SecretReport{Name: "registry-x.scanner", Pending: true}),
			metav1.ConditionUnknown, readiness.AccountsPending, `Secret "registry-x.scanner" waits until all replicas of the cache accept its password.`),
		Entry("no controller", readiness.Problem{Reason: readiness.ReplicaMissing, Message: "Pod x does not exist."}, nil, metav1.ConditionFalse, readiness.ReplicaMissing, "their controller does not work. Pod x does not exist."),
		Entry("a foreign Secret before other problems", readiness.Problem{}, accountsOf(
			pullsecret.SecretReport{Name: "registry-x.builder", Pending: true},
			pullsecret.SecretReport{Name: "registry-x.scanner", Storage: "x", Foreign: pullsecret.Namespaces{Listed: []string{"ci"}, Count: 1}},
		), metav1.ConditionFalse, readiness.ForeignSecret, `Secret "registry-x.scanner" of an account is missing in namespace ci:`),
		Entry("a failure to write", readiness.Problem{}, accountsOf(pullsecret.SecretReport{Name: "registry-x.builder", Reason: "Forbidden", Failed: pullsecret.Namespaces{Listed: []string{"ci"}, Count: 1}}),
			metav1.ConditionFalse, readiness.AccountsFailed, "could not be written in namespace ci (Forbidden)"),
		Entry("a failure to store passwords", readiness.Problem{}, accountsOf(pullsecret.SecretReport{Name: "registry-x.builder", Storage: "Secret kube-system/registry-x-accounts: NotOwned"}),
			metav1.ConditionFalse, readiness.PasswordNotStored, "could not be stored (Secret kube-system/registry-x-accounts: NotOwned)"),
		Entry("no report", readiness.Problem{}, nil, metav1.ConditionUnknown, readiness.ReportsMissing, "has not reported"),
		Entry("no feed yet", readiness.Problem{}, &pullsecret.Report{}, metav1.ConditionUnknown, readiness.AccountsPending, "have been changed"),
		Entry("an old feed, whatever its problems", readiness.Problem{}, &pullsecret.Report{Feed: "old", Secrets: []pullsecret.SecretReport{{Name: "registry-x.builder", Storage: "x"}}},
			metav1.ConditionUnknown, readiness.AccountsPending, "have been changed"),
		Entry("namespaces that do not follow yet", readiness.Problem{}, &pullsecret.Report{Feed: "x", Outstanding: 1}, metav1.ConditionUnknown, readiness.AccountsPending, "to all namespaces"),
	)

	It("does not trust the texts of a report", func() {
		condition := readiness.PullSecret(cache, readiness.Problem{}, reportOf(pullsecret.SecretReport{
			Foreign: pullsecret.Namespaces{Listed: []string{"a\nb", strings.Repeat("x", 10_000), "Visit https://example.com"}, Count: 3},
		}), "x")
		Expect(condition.Message).To(ContainSubstring("in 3 namespaces:"))
		condition = readiness.PullSecret(cache, readiness.Problem{}, reportOf(pullsecret.SecretReport{Credential: strings.Repeat("x\n", 10_000)}), "x")
		Expect(len(condition.Message)).To(BeNumerically("<", 300))
		Expect(condition.Message).NotTo(ContainSubstring("\n"))
	})
})
