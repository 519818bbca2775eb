// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentials_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/yaml"

	"github.com/larder-project/larder/pkg/credentials"
)

// forms are all forms of material. Each secret in them contains "hunter".
var forms = map[string]credentials.Material{
	"user name and password": credentials.Static(credentials.Credential{Username: "john", Password: "hunter2: \n\x00\xff"}),
	"identity token":         credentials.Static(credentials.Credential{Username: "john", IdentityToken: "hunter3"}),
	"identity token alone":   credentials.Static(credentials.Credential{IdentityToken: "hunter3"}),
	"registry token":         credentials.Static(credentials.Credential{RegistryToken: "hunter4"}),
	"AWS keys":               {AWS: credentials.AWSKeys{AccessKeyID: "AKIAhunter", SecretAccessKey: "hunter5"}},
	"temporary AWS keys with a role": {AWS: credentials.AWSKeys{
		AccessKeyID: "ASIAhunter", SecretAccessKey: "hunter5", SessionToken: "hunter6", RoleARN: "arn:aws:iam::123456789012:role/puller",
	}},
	"workload identity": {WorkloadIdentity: credentials.WorkloadIdentity{
		Provider: credentials.ProviderAWS, Config: `{"iamRoleARN":"arn:aws:iam::123456789012:role/puller"}`, Token: "hunter7",
	}},
}

var _ = Describe("Material", func() {
	It("is decoded to what was encoded", func() {
		for name, material := range forms {
			Expect(material.Validate()).To(Succeed(), name)
			decoded, err := credentials.DecodeMaterial(material.Encode())
			Expect(err).NotTo(HaveOccurred(), name)
			Expect(decoded).To(Equal(material), name)
			Expect(decoded.Same(material)).To(BeTrue(), name)
		}
	})

	It("is decoded without the fields of later versions", func() {
		Expect(credentials.DecodeMaterial([]byte(`{"aws":{"accessKeyID":"id","secretAccessKey":"key","later":"x"},"later":{}}`))).To(Equal(
			credentials.Material{AWS: credentials.AWSKeys{AccessKeyID: "id", SecretAccessKey: "key"}}))
	})

	DescribeTable("is not decoded from", func(data string) {
		_, err := credentials.DecodeMaterial([]byte(data))
		Expect(err).To(MatchError(Not(ContainSubstring("hunter"))))
	},
		Entry("nothing", ""),
		Entry("no form", "{}"),
		Entry("something other than JSON", `hunter2`),
		Entry("another type", `{"aws":"hunter2"}`),
		Entry("an unknown form", `{"hunter2":{}}`),
		Entry("two forms", `{"credential":{"registryToken":"hunter2"},"aws":{"accessKeyID":"hunter2","secretAccessKey":"hunter2"}}`),
		Entry("half a credential", `{"credential":{"username":"aHVudGVy"}}`),
		Entry("a registry token beside a user name", `{"credential":{"username":"aHVudGVy","registryToken":"hunter2"}}`),
		Entry("an identity token beside a password", `{"credential":{"username":"aHVudGVy","password":"aHVudGVy","identityToken":"hunter2"}}`),
		Entry("two tokens", `{"credential":{"identityToken":"hunter2","registryToken":"hunter2"}}`),
		Entry("a token with a line break", `{"credential":{"registryToken":"hunter2\n"}}`),
		Entry("half an AWS access key", `{"aws":{"secretAccessKey":"hunter2"}}`),
		Entry("an AWS access key with a line break", `{"aws":{"accessKeyID":"hunter2","secretAccessKey":"hunter2\n"}}`),
		Entry("an unknown provider", `{"workloadIdentity":{"provider":"hunter","config":"{}","token":"hunter2"}}`),
		Entry("an invalid configuration", `{"workloadIdentity":{"provider":"aws","config":"hunter2","token":"hunter2"}}`),
		Entry("no token", `{"workloadIdentity":{"provider":"aws","config":"{}"}}`),
	)

	It("stays the same with a new token of a workload identity, but not with another configuration", func() {
		before := forms["workload identity"]
		refreshed, other := before, before
		refreshed.WorkloadIdentity.Token = "refreshed"
		other.WorkloadIdentity.Config = "{}"
		Expect(refreshed.Same(before)).To(BeTrue())
		Expect(other.Same(before)).To(BeFalse())
		Expect(forms["AWS keys"].Same(before)).To(BeFalse())
	})

	DescribeTable("does not show secrets", func(show func(value any) (string, error)) {
		for name, m := range forms {
			for _, value := range []any{m, &m, m.Credential, m.AWS, &m.AWS, m.WorkloadIdentity, credentials.Named{Name: "robot", Material: m}} {
				shown, err := show(value)
				Expect(err).NotTo(HaveOccurred(), name)
				Expect(shown).NotTo(BeEmpty(), name)
				for _, secret := range []string{"hunter", fmt.Sprintf("%x", "hunter"), "aHVudGVy"} {
					Expect(strings.ToLower(shown)).NotTo(ContainSubstring(strings.ToLower(secret)), name)
				}
			}
		}
	},
		Entry("%v", func(v any) (string, error) { return fmt.Sprintf("%v", v), nil }),
		Entry("%+v", func(v any) (string, error) { return fmt.Sprintf("%+v", v), nil }),
		Entry("%#v", func(v any) (string, error) { return fmt.Sprintf("%#v", v), nil }),
		Entry("%d", func(v any) (string, error) { return fmt.Sprintf("%d", v), nil }),
		Entry("%x", func(v any) (string, error) { return fmt.Sprintf("%x", v), nil }),
		Entry("JSON", func(v any) (string, error) {
			data, err := json.Marshal(map[string]any{"value": v})
			return string(data), err
		}),
		Entry("YAML", func(v any) (string, error) {
			data, err := yaml.Marshal(map[string]any{"value": v})
			return string(data), err
		}),
		Entry("slog", func(v any) (string, error) {
			var buffer bytes.Buffer
			slog.New(slog.NewTextHandler(&buffer, nil)).Info("Read", "value", v)
			return buffer.String(), nil
		}),
	)
})
