// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/controller/readiness"
	"github.com/larder-project/larder/pkg/credentials"
)

var _ = Describe("Credentials for some repositories", func() {
	teamA, teamB := []string{"team-a"}, []string{"team-b"}

	newStatus := func() registry.RegistryCacheStatus {
		return registry.RegistryCacheStatus{
			Upstream: "registry.example.com",
			RepositoryCredentials: []registry.RepositoryCredentialStatus{
				{Repositories: teamA, Credentials: credentialsStatus(registry.CredentialsPending, "a1", "a2")},
				{Repositories: teamB, Credentials: credentialsStatus(registry.CredentialsActive, "b1", "")},
			},
		}
	}

	It("are observed each by itself", func() {
		status := newStatus()
		before := status.RepositoryCredentials
		seen := Cache{Desired: 1, Replicas: []Replica{{Name: "pod", Running: true, RepositoryCredentials: map[string]credentials.Report{
			credentials.Prefix(teamA): {SecretName: "a2", State: credentials.StateActive},
			credentials.Prefix(teamB): {SecretName: "b1", State: credentials.StateRejected, UpstreamStatusCode: 401},
		}}}}
		observed(map[string]Cache{resourceName(status): seen}, nil, &spans{})(&status, metav1.NewTime(time.Unix(2, 0)))
		Expect(status.RepositoryCredentials).To(HaveExactElements(
			HaveField("Credentials", And(HaveField("SecretName", "a2"), HaveField("PreviousSecretName", "a1"), HaveField("State", registry.CredentialsActive))),
			HaveField("Credentials", And(HaveField("SecretName", "b1"), HaveField("State", registry.CredentialsRejected))),
		))
		Expect(before).To(Equal(newStatus().RepositoryCredentials), "the status before the look is still needed")
		Expect(ready(status)).To(And(
			HaveField("Status", metav1.ConditionFalse), HaveField("Reason", string(readiness.CredentialRejected)),
			HaveField("Message", HavePrefix(`The upstream registry.example.com/team-b rejects the Secret "b1"`)),
		))
		Expect(equal(newStatus(), status)).To(BeFalse())
	})

	It("keep their state while replicas do not report them", func() {
		status := newStatus()
		seen := Cache{Desired: 1, Replicas: []Replica{{Name: "pod", Running: true}}}
		observed(map[string]Cache{resourceName(status): seen}, nil, &spans{})(&status, metav1.Now())
		Expect(status.RepositoryCredentials[0].Credentials.State).To(Equal(registry.CredentialsPending))
		Expect(status.RepositoryCredentials[1].Credentials.State).To(Equal(registry.CredentialsActive))
	})

	It("name the kind of the object, so that an identity can replace a Secret of the same name", func() {
		status := newStatus()
		status.RepositoryCredentials[0].Credentials = credentialsStatus(registry.CredentialsRejected, "a1", credentials.IdentityName("a1"))
		Expect(credentialProblem(status).Message).To(And(
			ContainSubstring(`registry.example.com/team-a rejects the WorkloadIdentity "a1" of its registry cache`),
			ContainSubstring("Allow it to pull in the cloud, or reference another one in spec.resources."),
			ContainSubstring(`Until then, the cache uses the Secret "a1", which must stay valid.`),
		))
	})

	It("have events of their own", func() {
		after := newStatus()
		after.RepositoryCredentials[0].Credentials = credentialsStatus(registry.CredentialsRejected, "a1", "a2")
		found := notes(newStatus(), after)
		Expect(found).To(HaveLen(1))
		Expect(found[0].reason).To(Equal("CredentialsRejected"))
		Expect(found[0].text).To(ContainSubstring("registry.example.com/team-a rejects"))
	})
})
