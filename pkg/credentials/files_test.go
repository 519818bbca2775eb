// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentials_test

import (
	"maps"
	"slices"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/larder-project/larder/pkg/credentials"
)

var _ = Describe("Files", func() {
	v1 := credentials.Named{Name: "robot-v1", Material: credentials.Static(credentials.Credential{Username: "robot", Password: "hunter2: \"#%*\n"})}
	v2 := credentials.Named{Name: "robot-v2", Material: credentials.Static(credentials.Credential{Username: "robot", Password: "hunter3"})}

	It("are parsed to the original credentials, of whatever form", func() {
		for name, material := range forms {
			wanted := credentials.Named{Name: "robot", Material: material}
			for _, previous := range []*credentials.Named{nil, &v1, {Name: "other", Material: forms["AWS keys"]}} {
				gotWanted, gotPrevious := credentials.FromFiles("", credentials.Files("", wanted, previous))
				Expect(*gotWanted).To(Equal(wanted), name)
				Expect(gotPrevious == nil).To(Equal(previous == nil), name)
				Expect(previous == nil || *gotPrevious == *previous).To(BeTrue(), name)
			}
		}
	})

	It("of a user name and a password have the names that running caches read", func() {
		Expect(slices.Collect(maps.Keys(credentials.Files("", v2, &v1)))).To(ConsistOf(
			"name", "username", "password", "previous.name", "previous.username", "previous.password"))
	})

	It("are separate for all repositories and for some", func() {
		teamA, teamB := credentials.Prefix([]string{"team-a"}), credentials.Prefix([]string{"team-b", "team-c"})
		files := credentials.Files("", v1, nil)
		maps.Copy(files, credentials.Files(teamA, v2, &v1))
		maps.Copy(files, credentials.Files(teamB, v1, &v2))
		wanted, previous := credentials.FromFiles("", files)
		Expect(*wanted == v1 && previous == nil).To(BeTrue())
		wanted, previous = credentials.FromFiles(teamA, files)
		Expect(*wanted == v2 && *previous == v1).To(BeTrue())
		wanted, previous = credentials.FromFiles(teamB, files)
		Expect(*wanted == v1 && *previous == v2).To(BeTrue())
		for name := range files {
			Expect(validation.IsConfigMapKey(name)).To(BeEmpty())
		}
	})

	It("have a prefix that depends on the repositories, but not on their order", func() {
		Expect(credentials.Prefix([]string{"b", "a"})).To(Equal(credentials.Prefix([]string{"a", "b"})))
		Expect(credentials.Prefix([]string{"a"})).NotTo(Equal(credentials.Prefix([]string{"a", "b"})))
		Expect(credentials.Prefix(nil)).To(BeEmpty())
	})

	It("are not parsed to incomplete credentials", func() {
		for _, missing := range []string{"name", "username", "password"} {
			files := credentials.Files("", v2, &v1)
			delete(files, missing)
			files["previous."+missing] = nil
			wanted, previous := credentials.FromFiles("", files)
			Expect(wanted).To(BeNil())
			Expect(previous).To(BeNil())
		}
		files := credentials.Files("", credentials.Named{Name: "robot", Material: forms["AWS keys"]}, nil)
		files["material"] = files["material"][1:]
		wanted, _ := credentials.FromFiles("", files)
		Expect(wanted).To(BeNil())
	})
})
