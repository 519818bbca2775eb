// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/pullsecret"
)

func TestKeeper(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Keeper Suite")
}

func own(change func(*corev1.Secret)) *corev1.Secret {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{pullsecret.Label: "uid"}},
		Type:       corev1.SecretTypeDockerConfigJson,
	}
	if change != nil {
		change(secret)
	}
	return secret
}

var _ = Describe("Decisions", func() {
	DescribeTable("about a Secret", func(wanted bool, present *corev1.Secret, expected action) {
		Expect(decide("uid", wanted, present)).To(Equal(expected))
	},
		Entry("wanted and missing", true, nil, write),
		Entry("wanted and present", true, own(nil), write),
		Entry("wanted, with another type", true, own(func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }), replace),
		Entry("wanted and immutable", true, own(func(s *corev1.Secret) { s.Immutable = new(true) }), replace),
		Entry("wanted and foreign", true, own(func(s *corev1.Secret) { s.Labels = nil }), respect),
		Entry("wanted, but a copy from another namespace", true, own(func(s *corev1.Secret) { s.Labels[pullsecret.Label] = "other" }), respect),
		Entry("unwanted and missing", false, nil, leave),
		Entry("unwanted and present", false, own(nil), remove),
		Entry("unwanted, with another type", false, own(func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }), remove),
		Entry("unwanted, but a copy from another namespace", false, own(func(s *corev1.Secret) { s.Labels[pullsecret.Label] = "other" }), leave),
		Entry("unwanted and foreign", false, own(func(s *corev1.Secret) { s.Labels = nil }), leave),
	)

	DescribeTable("about references", func(present []string, recorded string, refs references, expected []string, expectedRecord []string, expectedChange bool) {
		account := &corev1.ServiceAccount{}
		for _, name := range present {
			account.ImagePullSecrets = append(account.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
		}
		if recorded != "" {
			account.Annotations = map[string]string{pullsecret.ReferencesAnnotation: recorded}
		}
		c, changed := refs.changeOf(account)
		var names []string
		for _, reference := range c.references {
			names = append(names, reference.Name)
		}
		Expect(names).To(Equal(expected))
		Expect(c.recorded).To(Equal(expectedRecord))
		Expect(changed).To(Equal(expectedChange))
	},
		Entry("none", nil, "", references{}, nil, nil, false),
		Entry("a new one", []string{"x"}, "", references{wanted: []string{"a"}}, []string{"x", "a"}, []string{"a"}, true),
		Entry("one that is there", []string{"a", "x"}, "a", references{wanted: []string{"a"}}, []string{"a", "x"}, []string{"a"}, false),
		Entry("one that its owner has added", []string{"a"}, "", references{wanted: []string{"a"}}, []string{"a"}, nil, false),
		Entry("one that was removed", []string{"x"}, "a", references{wanted: []string{"a"}}, []string{"x", "a"}, []string{"a"}, true),
		Entry("one that is no longer wanted", []string{"y", "a", "x"}, "a", references{}, []string{"y", "x"}, nil, true),
		Entry("one of its owner that is no longer wanted", []string{"a"}, "", references{}, []string{"a"}, nil, false),
		Entry("one that is undecided", []string{"a"}, "a", references{undecided: []string{"a"}}, []string{"a"}, []string{"a"}, false),
		Entry("one that is undecided and missing", nil, "", references{undecided: []string{"a"}}, nil, nil, false),
		Entry("a record of one that is gone", nil, "a,,b", references{wanted: []string{"b"}}, []string{"b"}, []string{"b"}, true),
		Entry("several", []string{"b"}, "b", references{wanted: []string{"c", "a"}}, []string{"c", "a"}, []string{"a", "c"}, true),
	)
})
