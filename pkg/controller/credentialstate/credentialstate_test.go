// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentialstate

import (
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/credentials"
)

func version(name string) *credentials.Named {
	return &credentials.Named{Name: name, Material: credentials.Static(credentials.Credential{Username: "robot", Password: "password of " + name})}
}

func status(state registry.CredentialsState, name, pending string) registry.CredentialsStatus {
	return registry.CredentialsStatus{State: state, SecretName: name, PendingSecretName: pending, Since: metav1.NewTime(time.Unix(1, 0))}
}

// after is a status whose credential replaced another that is still deployed.
func after(previous string, status registry.CredentialsStatus) registry.CredentialsStatus {
	status.PreviousSecretName = previous
	return status
}

var _ = Describe("Deployed", func() {
	v1, v2, v3 := version("v1"), version("v2"), version("v3")
	replaced := *v1
	replaced.Material.Credential.Password = "another"
	active, pending, rejected := registry.CredentialsActive, registry.CredentialsPending, registry.CredentialsRejected

	DescribeTable("is followed by the wanted credential and a previous one",
		func(wanted *credentials.Named, deployed Deployed, status *registry.CredentialsStatus, previous *credentials.Named) {
			next := deployed.Next(*wanted, status)
			Expect(next.Wanted).To(HaveValue(Equal(*wanted)))
			if previous == nil {
				Expect(next.Previous).To(BeNil())
				return
			}
			Expect(next.Previous).To(HaveValue(Equal(*previous)))
		},
		Entry("none at first", v1, Deployed{}, nil, nil),
		Entry("none if nothing changes", v1, Deployed{v1, nil}, new(status(active, "v1", "")), nil),
		Entry("none if nothing changes, before the first result", v1, Deployed{v1, nil}, new(status(pending, "v1", "")), nil),
		Entry("the active one if another follows", v2, Deployed{v1, nil}, new(status(active, "v1", "")), v1),
		Entry("the active one, even if it is rejected", v2, Deployed{v1, nil}, new(status(rejected, "v1", "")), v1),
		Entry("the active one without a status, as after a change of seed", v2, Deployed{v1, nil}, nil, v1),
		Entry("the same while the new one is pending", v2, Deployed{v2, v1}, new(status(pending, "v1", "v2")), v1),
		Entry("the same while the new one is rejected", v2, Deployed{v2, v1}, new(status(rejected, "v1", "v2")), v1),
		Entry("the last accepted one if a third follows a rejected one", v3, Deployed{v2, v1}, new(status(rejected, "v1", "v2")), v1),
		Entry("none once all replicas use the new one", v2, Deployed{v2, v1}, new(status(active, "v2", "")), nil),
		Entry("the active one if a third follows before the first was removed", v3, Deployed{v2, v1}, new(status(active, "v2", "")), v2),
		Entry("none if the change is reverted", v1, Deployed{v2, v1}, new(status(rejected, "v1", "v2")), nil),
		Entry("the one with the same name and another password", &replaced, Deployed{v1, nil}, new(status(active, "v1", "")), v1),
	)

	DescribeTable("has a status",
		func(before *registry.CredentialsStatus, deployed Deployed, expected *registry.CredentialsStatus) {
			now := metav1.NewTime(time.Unix(2, 0))
			if expected != nil && expected.Since.IsZero() {
				expected.Since = now
			}
			got := deployed.Status(before, now)
			if got != nil {
				got = got.DeepCopy()
				got.Message = ""
			}
			Expect(got).To(Equal(expected))
		},
		Entry("none for anonymous access", new(status(active, "v1", "")), Deployed{}, nil),
		Entry("pending at first", nil, Deployed{v1, nil}, &registry.CredentialsStatus{SecretName: "v1", State: pending}),
		Entry("unchanged if nothing changes", new(status(active, "v1", "")), Deployed{v1, nil}, new(status(active, "v1", ""))),
		Entry("pending if another follows", new(status(active, "v1", "")), Deployed{v2, v1},
			&registry.CredentialsStatus{SecretName: "v1", PendingSecretName: "v2", State: pending}),
		Entry("active if the replicas activated it during the deployment", new(status(active, "v2", "")), Deployed{v2, v1},
			new(after("v1", status(active, "v2", "")))),
		Entry("pending if the password behind the same name changes", new(status(active, "v1", "")), Deployed{&replaced, v1},
			&registry.CredentialsStatus{SecretName: "v1", PendingSecretName: "v1", State: pending}),
		Entry("without the previous one once that is removed", new(after("v1", status(active, "v2", ""))), Deployed{v2, nil},
			new(status(active, "v2", ""))),
		Entry("unchanged while it is rejected", new(status(rejected, "v1", "v2")), Deployed{v2, v1}, new(status(rejected, "v1", "v2"))),
		Entry("pending if a third follows", new(status(rejected, "v1", "v2")), Deployed{v3, v1},
			&registry.CredentialsStatus{SecretName: "v1", PendingSecretName: "v3", State: pending}),
		Entry("pending if the change is reverted", new(status(rejected, "v1", "v2")), Deployed{v1, nil},
			&registry.CredentialsStatus{SecretName: "v1", State: pending}),
	)
})

func reports(state credentials.State, name, pending string) Replica {
	report := &credentials.Report{State: state, SecretName: name, PendingSecretName: pending, Message: "upstream registry.example.com: status 401"}
	if state == credentials.StateRejected {
		report.UpstreamStatusCode = 401
	}
	return Replica{Name: "pod", Report: report}
}

var _ = DescribeTable("Observe returns", func(before registry.CredentialsStatus, replicas Replicas, expected registry.CredentialsStatus) {
	now := metav1.NewTime(time.Unix(2, 0))
	got := Observe(before, replicas, now)
	if expected.State != before.State || WantedSecret(&expected) != WantedSecret(&before) {
		expected.Since = now
	}
	expected.Message, expected.UpstreamStatusCode = got.Message, nil
	if expected.State == registry.CredentialsRejected && expected.State != before.State {
		expected.UpstreamStatusCode = new(int32(401))
	}
	Expect(got).To(Equal(expected))
},
	Entry("active if the only replica is",
		status(registry.CredentialsPending, "v1", ""), Replicas{1, []Replica{reports(credentials.StateActive, "v1", "")}},
		status(registry.CredentialsActive, "v1", "")),
	Entry("active once all replicas have activated the new credential",
		status(registry.CredentialsPending, "v1", "v2"), Replicas{2, []Replica{reports(credentials.StateActive, "v2", ""), reports(credentials.StateActive, "v2", "")}},
		after("v1", status(registry.CredentialsActive, "v2", ""))),
	Entry("active, since the same time, while the previous credential is deployed",
		after("v1", status(registry.CredentialsActive, "v2", "")), Replicas{1, []Replica{reports(credentials.StateActive, "v2", "")}},
		after("v1", status(registry.CredentialsActive, "v2", ""))),
	Entry("pending while one of two has only the old credential",
		status(registry.CredentialsPending, "v1", "v2"), Replicas{2, []Replica{reports(credentials.StateActive, "v2", ""), reports(credentials.StateActive, "v1", "")}},
		status(registry.CredentialsPending, "v1", "v2")),
	Entry("pending while one of two checks the new credential",
		status(registry.CredentialsPending, "v1", "v2"), Replicas{2, []Replica{reports(credentials.StateActive, "v2", ""), reports(credentials.StatePending, "v1", "v2")}},
		status(registry.CredentialsPending, "v1", "v2")),
	Entry("pending while one of two does not run",
		status(registry.CredentialsPending, "v1", "v2"), Replicas{2, []Replica{reports(credentials.StateActive, "v2", "")}},
		status(registry.CredentialsPending, "v1", "v2")),
	Entry("pending while one does not respond",
		status(registry.CredentialsPending, "v1", "v2"), Replicas{1, []Replica{reports(credentials.StateActive, "v2", ""), {Name: "silent"}}},
		status(registry.CredentialsPending, "v1", "v2")),
	Entry("pending while none runs",
		status(registry.CredentialsPending, "v1", ""), Replicas{},
		status(registry.CredentialsPending, "v1", "")),
	Entry("rejected if one of two reports it",
		status(registry.CredentialsPending, "v1", "v2"), Replicas{2, []Replica{reports(credentials.StateActive, "v2", ""), reports(credentials.StateRejected, "v1", "v2")}},
		status(registry.CredentialsRejected, "v1", "v2")),
	Entry("rejected if the active credential is no longer accepted",
		status(registry.CredentialsActive, "v1", ""), Replicas{1, []Replica{reports(credentials.StateRejected, "v1", "")}},
		status(registry.CredentialsRejected, "v1", "")),
	Entry("pending if an earlier credential is rejected",
		status(registry.CredentialsPending, "v1", "v3"), Replicas{1, []Replica{reports(credentials.StateRejected, "v1", "v2")}},
		status(registry.CredentialsPending, "v1", "v3")),
	Entry("pending after a change back, while a replica still rejects the other credential",
		status(registry.CredentialsPending, "v1", ""), Replicas{1, []Replica{reports(credentials.StateRejected, "v1", "v2")}},
		status(registry.CredentialsPending, "v1", "")),
	Entry("missing if a replica cannot read a credential",
		status(registry.CredentialsActive, "v1", ""), Replicas{1, []Replica{reports(credentials.StateMissing, "", "")}},
		status(registry.CredentialsMissing, "v1", "")),
	Entry("active while a replica restarts",
		status(registry.CredentialsActive, "v2", ""), Replicas{2, []Replica{reports(credentials.StateActive, "v2", ""), reports(credentials.StatePending, "v2", "")}},
		status(registry.CredentialsActive, "v2", "")),
	Entry("active while no replica responds",
		status(registry.CredentialsActive, "v2", ""), Replicas{1, []Replica{{Name: "silent"}}},
		status(registry.CredentialsActive, "v2", "")),
	Entry("rejected until all report otherwise",
		status(registry.CredentialsRejected, "v1", "v2"), Replicas{1, []Replica{reports(credentials.StatePending, "v1", "v2")}},
		status(registry.CredentialsRejected, "v1", "v2")),
	Entry("active once the upstream accepts a rejected credential",
		status(registry.CredentialsRejected, "v1", "v2"), Replicas{1, []Replica{reports(credentials.StateActive, "v2", "")}},
		after("v1", status(registry.CredentialsActive, "v2", ""))),
)

var _ = It("ignores a status code that HTTP does not allow", func() {
	for _, code := range []int{-1, 0, 99, 1000, 1 << 40} {
		Expect(statusCode(&credentials.Report{UpstreamStatusCode: code})).To(BeNil())
	}
	Expect(statusCode(&credentials.Report{UpstreamStatusCode: 403})).To(HaveValue(Equal(int32(403))))
})
