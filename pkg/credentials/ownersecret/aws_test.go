// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ownersecret_test

import (
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
)

const ecrHost = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"

func newAWSSecret(data map[string]string) *corev1.Secret {
	secret := newSecret("", "")
	secret.Data = map[string][]byte{}
	for key, value := range data {
		secret.Data[key] = []byte(value)
	}
	return secret
}

var _ = Describe("AWS access key", func() {
	DescribeTable("is accepted for Amazon ECR", func(data map[string]string, upstream string, expected credentials.AWSKeys) {
		content := ownersecret.Parse(newAWSSecret(data))
		material, errs := content.Material(useOf(upstream), fldPath)
		Expect(errs).To(BeEmpty())
		Expect(material).To(Equal(credentials.Material{AWS: expected}))
		Expect(material.Validate()).To(Succeed())
		Expect(content.Validate(useOf(upstream), fldPath)).To(BeEmpty())
	},
		Entry("permanent", map[string]string{"accessKeyID": "AKIAIOSFODNN7EXAMPLE", "secretAccessKey": "hunter2+/="}, ecrHost,
			credentials.AWSKeys{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "hunter2+/="}),
		Entry("temporary", map[string]string{"accessKeyID": "ASIAIOSFODNN7EXAMPLE", "secretAccessKey": "hunter2", "sessionToken": "hunter3"}, ecrHost,
			credentials.AWSKeys{AccessKeyID: "ASIAIOSFODNN7EXAMPLE", SecretAccessKey: "hunter2", SessionToken: "hunter3"}),
		Entry("with a role", map[string]string{"accessKeyID": "AKIAIOSFODNN7EXAMPLE", "secretAccessKey": "hunter2", "roleARN": "arn:aws-cn:iam::123456789012:role/path/puller"}, ecrHost,
			credentials.AWSKeys{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "hunter2", RoleARN: "arn:aws-cn:iam::123456789012:role/path/puller"}),
		Entry("with a role that requires an external ID", map[string]string{"accessKeyID": "AKIAIOSFODNN7EXAMPLE", "secretAccessKey": "hunter2", "roleARN": "arn:aws:iam::123456789012:role/puller", "externalID": "shoot:dev/example"}, ecrHost,
			credentials.AWSKeys{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "hunter2", RoleARN: "arn:aws:iam::123456789012:role/puller", ExternalID: "shoot:dev/example"}),
		Entry("for the public gallery", map[string]string{"accessKeyID": "AKIAIOSFODNN7EXAMPLE", "secretAccessKey": "hunter2"}, "public.ecr.aws",
			credentials.AWSKeys{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "hunter2"}),
	)

	DescribeTable("is refused", func(change func(data map[string]string), messages ...string) {
		data := map[string]string{"accessKeyID": "AKIAIOSFODNN7EXAMPLE", "secretAccessKey": "hunter2", "roleARN": "arn:aws:iam::123456789012:role/puller"}
		change(data)
		_, errs := ownersecret.Parse(newAWSSecret(data)).Material(useOf(ecrHost), fldPath)
		Expect(errs).To(details(messages...))
		Expect(errs.ToAggregate()).To(MatchError(Not(Or(ContainSubstring("hunter2"), ContainSubstring("AKIA")))))
	},
		Entry("without an ID", func(d map[string]string) { delete(d, "accessKeyID") }, `must have the key "accessKeyID"`),
		Entry("without a secret", func(d map[string]string) { delete(d, "secretAccessKey") }, `must have the key "secretAccessKey"`),
		Entry("with a line break after the ID", func(d map[string]string) { d["accessKeyID"] += "\n" }, `key "accessKeyID"`),
		Entry("with exchanged keys", func(d map[string]string) { d["accessKeyID"] = "hunter2+/" }, `key "accessKeyID"`),
		Entry("with an empty secret", func(d map[string]string) { d["secretAccessKey"] = "" }, `key "secretAccessKey"`),
		Entry("with a line break after the secret", func(d map[string]string) { d["secretAccessKey"] += "\n" }, "line breaks"),
		Entry("with a long secret", func(d map[string]string) { d["secretAccessKey"] = strings.Repeat("hunter2", 50) }, "at most 256 bytes"),
		Entry("with a long session token", func(d map[string]string) { d["sessionToken"] = strings.Repeat("hunter2", 2000) }, "at most 8192 bytes"),
		Entry("with an empty session token", func(d map[string]string) { d["sessionToken"] = "" }, `key "sessionToken"`),
		Entry("temporary, without a session token", func(d map[string]string) { d["accessKeyID"] = "ASIAIOSFODNN7EXAMPLE" }, `must have the key "sessionToken"`),
		Entry("with a role that is none", func(d map[string]string) { d["roleARN"] = "hunter2" }, "ARN of a role"),
		Entry("with a long role", func(d map[string]string) { d["roleARN"] += strings.Repeat("x", 2048) }, "ARN of a role"),
		Entry("with a short external ID", func(d map[string]string) { d["externalID"] = "x" }, `key "externalID"`),
		Entry("with a long external ID", func(d map[string]string) { d["externalID"] = strings.Repeat("hunter2", 200) }, `key "externalID"`),
		Entry("with a line break after the external ID", func(d map[string]string) { d["externalID"] = "hunter2\n" }, "line breaks"),
		Entry("with an external ID without a role", func(d map[string]string) { d["externalID"] = "hunter2"; delete(d, "roleARN") }, `must have the key "roleARN"`),
		Entry("with more keys", func(d map[string]string) { d["hunter2"] = "" }, "remove the others"),
		Entry("with everything wrong", func(d map[string]string) { d["accessKeyID"], d["secretAccessKey"], d["username"] = "", "", "" },
			`key "accessKeyID"`, `key "secretAccessKey"`, "remove the others"),
	)

	It("is refused for other registries", func() {
		_, errs := ownersecret.Parse(newAWSSecret(map[string]string{"accessKeyID": "AKIAIOSFODNN7EXAMPLE", "secretAccessKey": "hunter2"})).Material(use, fldPath)
		Expect(errs).To(details(`"registry.example.com" is no registry of Amazon ECR`))
	})

	It("is for the registry at the remote URL, which receives the token, or else for the upstream", func() {
		content := ownersecret.Parse(newAWSSecret(map[string]string{"accessKeyID": "AKIAIOSFODNN7EXAMPLE", "secretAccessKey": "hunter2"}))
		Expect(content.Validate(ownersecret.Use{Upstream: "registry.example.com", RemoteURL: "https://" + ecrHost}, fldPath)).To(BeEmpty())
		Expect(content.Validate(ownersecret.Use{Upstream: ecrHost + ":443"}, fldPath)).To(BeEmpty())
		Expect(content.Validate(ownersecret.Use{Upstream: ecrHost, RemoteURL: "https://proxy.example.com"}, fldPath)).
			To(details(`"proxy.example.com" is no registry of Amazon ECR`))
	})
})

var _ = Describe("Keys with other names", func() {
	It("are used, whatever other keys the Secret has", func() {
		secret := newSecret("", "")
		secret.Data = map[string][]byte{"user": []byte("john"), "token": []byte("hunter2"), "url": nil, "accessKeyID": nil}
		named := use
		named.UsernameKey, named.PasswordKey = "user", "token"
		material, errs := ownersecret.Parse(secret).Material(named, fldPath)
		Expect(errs).To(BeEmpty())
		Expect(material).To(Equal(credentials.Static(credentials.Credential{Username: "john", Password: "hunter2"})))

		named.UsernameKey, named.PasswordKey = "", "missing"
		_, errs = ownersecret.Parse(secret).Material(named, fldPath)
		Expect(errs).To(details(`must have the key "username"`, `must have the key "missing"`))
	})
})
