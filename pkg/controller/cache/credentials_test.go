// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/apis/registry"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/credentials"
)

var _ = Describe("Credentials", func() {
	version := func(name string) *credentials.Named {
		return &credentials.Named{Name: name, Credential: credentials.Credential{Username: "robot", Password: "password of " + name}}
	}
	v1, v2, v3 := version("v1"), version("v2"), version("v3")
	files := func(wanted, previous *credentials.Named) map[string][]byte {
		return credentials.Files(*wanted, previous)
	}
	status := func(name, pending string, state registry.CredentialsState) *registry.CredentialsStatus {
		return &registry.CredentialsStatus{SecretName: name, PendingSecretName: pending, State: state, Since: metav1.NewTime(time.Unix(1, 0))}
	}
	replaced := *v1
	replaced.Password = "another"

	DescribeTable("that are kept beside the wanted ones",
		func(wanted *credentials.Named, deployed map[string][]byte, status *registry.CredentialsStatus, expected *credentials.Named) {
			kept := previousCredential(*wanted, deployed, status)
			if expected == nil {
				Expect(kept).To(BeNil())
				return
			}
			Expect(kept).To(HaveValue(Equal(*expected)))
		},
		Entry("none at first", v1, nil, nil, nil),
		Entry("none when nothing changes", v1, files(v1, nil), status("v1", "", registry.CredentialsActive), nil),
		Entry("none when nothing changes, before the first verdict", v1, files(v1, nil), status("v1", "", registry.CredentialsPending), nil),
		Entry("the one in use when another follows", v2, files(v1, nil), status("v1", "", registry.CredentialsActive), v1),
		Entry("the one in use, even if it is rejected", v2, files(v1, nil), status("v1", "", registry.CredentialsRejected), v1),
		Entry("the one in use without a status, as after a change of seed", v2, files(v1, nil), nil, v1),
		Entry("the same while the new one is pending", v2, files(v2, v1), status("v1", "v2", registry.CredentialsPending), v1),
		Entry("the same while the new one is rejected", v2, files(v2, v1), status("v1", "v2", registry.CredentialsRejected), v1),
		Entry("the last good one when a third follows a rejected one", v3, files(v2, v1), status("v1", "v2", registry.CredentialsRejected), v1),
		Entry("none once all replicas use the new one", v2, files(v2, v1), status("v2", "", registry.CredentialsActive), nil),
		Entry("the one in use when a third follows before the first was removed", v3, files(v2, v1), status("v2", "", registry.CredentialsActive), v2),
		Entry("none when the change is taken back", v1, files(v2, v1), status("v1", "v2", registry.CredentialsRejected), nil),
		Entry("what was behind the same name before", &replaced, files(v1, nil), status("v1", "", registry.CredentialsActive), v1),
		Entry("none that is not complete", v2, map[string][]byte{"name": []byte("v1"), "username": []byte("robot")}, nil, nil),
	)

	DescribeTable("in the status",
		func(before *registry.CredentialsStatus, wanted, previous *credentials.Named, expected *registry.CredentialsStatus) {
			now := metav1.NewTime(time.Unix(2, 0))
			if expected != nil && expected.Since.IsZero() {
				expected.Since = now
			}
			got := stagedStatus(before, component.Values{Credential: wanted, PreviousCredential: previous}, now)
			if got != nil {
				got = got.DeepCopy()
				got.Message = ""
			}
			Expect(got).To(Equal(expected))
		},
		Entry("none without any", status("v1", "", registry.CredentialsActive), nil, nil, nil),
		Entry("pending at first", nil, v1, nil, &registry.CredentialsStatus{SecretName: "v1", State: registry.CredentialsPending}),
		Entry("as before when nothing changes", status("v1", "", registry.CredentialsActive), v1, nil, status("v1", "", registry.CredentialsActive)),
		Entry("pending when another follows", status("v1", "", registry.CredentialsActive), v2, v1,
			&registry.CredentialsStatus{SecretName: "v1", PendingSecretName: "v2", State: registry.CredentialsPending}),
		Entry("active, when that was found out meanwhile", status("v2", "", registry.CredentialsActive), v2, v1,
			&registry.CredentialsStatus{SecretName: "v2", PreviousSecretName: "v1", State: registry.CredentialsActive, Since: status("v2", "", registry.CredentialsActive).Since}),
		Entry("pending, when others are behind the same name", status("v1", "", registry.CredentialsActive), &replaced, v1,
			&registry.CredentialsStatus{SecretName: "v1", PendingSecretName: "v1", State: registry.CredentialsPending}),
		Entry("without the old ones when these are gone", &registry.CredentialsStatus{SecretName: "v2", PreviousSecretName: "v1", State: registry.CredentialsActive, Since: metav1.NewTime(time.Unix(1, 0))}, v2, nil,
			&registry.CredentialsStatus{SecretName: "v2", State: registry.CredentialsActive, Since: metav1.NewTime(time.Unix(1, 0))}),
		Entry("as before while it is rejected", status("v1", "v2", registry.CredentialsRejected), v2, v1, status("v1", "v2", registry.CredentialsRejected)),
		Entry("pending when a third follows", status("v1", "v2", registry.CredentialsRejected), v3, v1,
			&registry.CredentialsStatus{SecretName: "v1", PendingSecretName: "v3", State: registry.CredentialsPending}),
		Entry("pending when the change is taken back", status("v1", "v2", registry.CredentialsRejected), v1, nil,
			&registry.CredentialsStatus{SecretName: "v1", State: registry.CredentialsPending}),
	)
})
