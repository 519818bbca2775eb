// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentials_test

import (
	"encoding/json"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/credentials"
)

var _ = Describe("Files", func() {
	v1 := credentials.Named{Name: "robot-v1", Credential: credentials.Credential{Username: "robot", Password: "hunter2: \"#%*\n"}}
	v2 := credentials.Named{Name: "robot-v2", Credential: credentials.Credential{Username: "robot", Password: "hunter3"}}

	It("are parsed to the original credentials", func() {
		wanted, previous := credentials.FromFiles(credentials.Files(v2, &v1))
		Expect(*wanted == v2 && *previous == v1).To(BeTrue())
		wanted, previous = credentials.FromFiles(credentials.Files(v1, nil))
		Expect(*wanted == v1 && previous == nil).To(BeTrue())
	})

	It("are not parsed to incomplete credentials", func() {
		for _, missing := range []string{"name", "username", "password"} {
			files := credentials.Files(v2, &v1)
			delete(files, missing)
			files["previous."+missing] = nil
			wanted, previous := credentials.FromFiles(files)
			Expect(wanted).To(BeNil())
			Expect(previous).To(BeNil())
		}
	})

	It("are made of credentials that do not show the password", func() {
		data, err := json.Marshal(map[string]any{"credential": &v2})
		Expect(err).NotTo(HaveOccurred())
		for _, shown := range []string{string(data), fmt.Sprint(v2), fmt.Sprintf("%+v %#v", &v2, v2)} {
			Expect(shown).NotTo(ContainSubstring("hunter3"))
		}
	})
})
