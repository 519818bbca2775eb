// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentials_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/yaml"

	"github.com/larder-project/larder/pkg/credentials"
)

var _ = Describe("Credential", func() {
	credential := credentials.Credential{Username: "john", Password: "hunter2"}

	DescribeTable("shows the user name, but not the password",
		func(show func() (string, error)) {
			Expect(show()).To(And(
				ContainSubstring("john"),
				Not(ContainSubstring("hunter2")),
				Not(ContainSubstring(fmt.Sprintf("%x", "hunter2"))),
			))
		},
		Entry("%v", func() (string, error) { return fmt.Sprintf("%v", credential), nil }),
		Entry("%+v", func() (string, error) { return fmt.Sprintf("%+v", credential), nil }),
		Entry("%#v", func() (string, error) { return fmt.Sprintf("%#v", credential), nil }),
		Entry("%d", func() (string, error) { return fmt.Sprintf("%d", credential), nil }),
		Entry("%x", func() (string, error) { return fmt.Sprintf("%x", credential), nil }),
		Entry("%v of a pointer", func() (string, error) { return fmt.Sprintf("%v", &credential), nil }),
		Entry("%+v of a struct around it", func() (string, error) {
			return fmt.Sprintf("%+v", struct{ Credential *credentials.Credential }{&credential}) + "john", nil
		}),
		Entry("GoString", func() (string, error) { return credential.GoString(), nil }),
		Entry("JSON", func() (string, error) {
			data, err := json.Marshal(map[string]any{"credential": credential})
			return string(data), err
		}),
		Entry("YAML", func() (string, error) {
			data, err := yaml.Marshal(map[string]any{"credential": &credential})
			return string(data), err
		}),
		Entry("text", func() (string, error) {
			data, err := credential.MarshalText()
			return string(data), err
		}),
		Entry("slog", func() (string, error) {
			var buffer bytes.Buffer
			slog.New(slog.NewTextHandler(&buffer, nil)).Info("Read", "credential", credential)
			return buffer.String(), nil
		}),
	)

	DescribeTable("validates", func(username, password string, valid bool) {
		err := credentials.Credential{Username: username, Password: password}.Validate()
		if valid {
			Expect(err).NotTo(HaveOccurred())
			return
		}
		Expect(err).To(MatchError(Not(ContainSubstring("hunter2"))))
	},
		Entry("a user and a password", "john", "hunter2", true),
		Entry("a password of any bytes", "john", "hunter2: \n\x00\xff", true),
		Entry("no user", "", "hunter2", false),
		Entry("no password", "john", "", false),
		Entry("a colon in the user name", "john:hunter2", "hunter2", false),
		Entry("a line end in the user name", "john\n", "hunter2", false),
		Entry("a DEL in the user name", "john\x7f", "hunter2", false),
	)
})
