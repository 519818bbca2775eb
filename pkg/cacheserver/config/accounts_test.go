// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/config"
)

var _ = Describe("Accounts", func() {
	It("are parsed as they were rendered, without passwords", func() {
		accounts := config.Accounts{Accounts: []config.Account{{
			Name: "builder", Repositories: []string{"library", config.AllRepositories},
			Passwords: []config.PasswordHash{
				config.HashPassword("s3cret", nil),
				config.HashPassword("s3cret before", new(time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC))),
			},
		}}}
		content, err := accounts.Marshal()
		Expect(err).NotTo(HaveOccurred())
		Expect(string(content)).NotTo(ContainSubstring("s3cret"))
		Expect(config.ParseAccounts(content)).To(Equal(accounts))
		Expect(accounts.Accounts[0].Username()).To(Equal("larder.builder"))
	})

	DescribeTable("are refused with", func(content, message string) {
		_, err := config.ParseAccounts([]byte(strings.ReplaceAll(content, "HASH", strings.Repeat("0", 64))))
		Expect(err).To(MatchError(ContainSubstring(message)))
		Expect(err.Error()).NotTo(ContainSubstring("s3cret"))
	},
		Entry("something other than JSON", "s3cret", "not a valid list"),
		Entry("an unknown field", `{"accounts":[{"name":"a","password":"s3cret"}]}`, "not a valid list"),
		Entry("more than one document", `{"accounts":[]}{}`, "more than one list"),
		Entry("a name that is none", `{"accounts":[{"name":"A:b","repositories":["*"],"passwords":[{"sha256":"HASH"}]}]}`, "accounts[0].name must be a DNS label"),
		Entry("the same name twice", `{"accounts":[{"name":"a","repositories":["*"],"passwords":[{"sha256":"HASH"}]},{"name":"a","repositories":["*"],"passwords":[{"sha256":"HASH"}]}]}`, "account a is listed twice"),
		Entry("no repositories", `{"accounts":[{"name":"a","passwords":[{"sha256":"HASH"}]}]}`, "no repositories"),
		Entry("a repository that is none", `{"accounts":[{"name":"a","repositories":["/x"],"passwords":[{"sha256":"HASH"}]}]}`, "is neither the name of a repository nor"),
		Entry("no password", `{"accounts":[{"name":"a","repositories":["*"]}]}`, "no password"),
		Entry("a hash of another kind", `{"accounts":[{"name":"a","repositories":["*"],"passwords":[{"sha256":"s3cret"}]}]}`, "passwords[0].sha256 is not a SHA-256"),
		Entry("too many accounts", fmt.Sprintf(`{"accounts":[%s{}]}`, strings.Repeat("{},", 64)), "more than 64 accounts"),
	)
})
