// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package validation_test

import (
	"fmt"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/validation"
)

var _ = Describe("Credentials", func() {
	var cache registry.RegistryCache

	BeforeEach(func() {
		cache = registry.RegistryCache{
			Upstream:            "registry.example.com",
			SecretReferenceName: new("default"),
			Credentials: []registry.RepositoryCredential{
				{Repositories: []string{"team-a", "shared/base_image/a.b"}, SecretReferenceName: "team-a"},
				{Repositories: []string{"team-a/app"}, SecretReferenceName: "app", UsernameKey: new("user"), PasswordKey: new("token")},
			},
		}
	})

	validate := func(old ...registry.RegistryCache) field.ErrorList {
		config := &registry.RegistryConfig{Caches: []registry.RegistryCache{cache}}
		return validation.ValidateRegistryConfigUpdate(config, &registry.RegistryConfig{Caches: old}, field.NewPath("config"))
	}

	It("accepts credentials, with and without one for all other repositories", func() {
		Expect(validate()).To(BeEmpty())
		cache.SecretReferenceName = nil
		Expect(validate()).To(BeEmpty())
	})

	It("limits the length of all repositories together, which the status repeats", func() {
		caches := func(number int) []registry.RegistryCache {
			var caches []registry.RegistryCache
			for i := range number {
				cache := registry.RegistryCache{Upstream: fmt.Sprintf("r%d.example.com", i)}
				for j := range 8 {
					repositories := make([]string, 32)
					for k := range repositories {
						repositories[k] = fmt.Sprintf("%02d-%02d/%s", j, k, strings.Repeat("x", 250))
					}
					cache.Credentials = append(cache.Credentials, registry.RepositoryCredential{Repositories: repositories, SecretReferenceName: "x"})
				}
				caches = append(caches, cache)
			}
			return caches
		}
		config := func(caches []registry.RegistryCache) *registry.RegistryConfig {
			return &registry.RegistryConfig{Caches: caches}
		}
		Expect(validation.ValidateCount(config(caches(1)), &registry.RegistryConfig{}, nil)).To(BeEmpty())
		Expect(validation.ValidateCount(config(caches(2)), &registry.RegistryConfig{}, nil)).To(ConsistOf(And(
			HaveField("Field", "caches"), HaveField("Detail", ContainSubstring("the repositories of all credentials have 131072 bytes, more than the maximum of 65536")))))
		Expect(validation.ValidateCount(config(caches(2)), config(caches(2)), nil)).To(BeEmpty())
	})

	DescribeTable("refuses", func(change func(), path string, message string) {
		change()
		Expect(validate()).To(ConsistOf(And(
			HaveField("Field", "config.caches[0]."+path),
			HaveField("ErrorBody()", ContainSubstring(message)),
		)))
	},
		Entry("too many credentials", func() {
			for i := range 16 {
				cache.Credentials = append(cache.Credentials, registry.RepositoryCredential{Repositories: []string{fmt.Sprintf("r%d", i)}, SecretReferenceName: "x"})
			}
		}, "credentials", "must have at most 16 items"),
		Entry("too many repositories", func() {
			cache.Credentials[0].Repositories = nil
			for i := range 33 {
				cache.Credentials[0].Repositories = append(cache.Credentials[0].Repositories, fmt.Sprintf("r%d", i))
			}
		}, "credentials[0].repositories", "must have at most 32 items"),
		Entry("no repositories", func() { cache.Credentials[0].Repositories = nil }, "credentials[0].repositories", "at least one repository"),
		Entry("no reference", func() { cache.Credentials[1].SecretReferenceName = "" }, "credentials[1].secretReferenceName", "must be the name of an entry in spec.resources"),
		Entry("a long reference", func() { cache.Credentials[1].SecretReferenceName = strings.Repeat("x", 254) }, "credentials[1].secretReferenceName", "253"),
		Entry("a repository twice in a credential", func() { cache.Credentials[0].Repositories[1] = "team-a" }, "credentials[0].repositories[1]", "Duplicate"),
		Entry("a repository twice in two credentials", func() { cache.Credentials[1].Repositories[0] = "team-a" }, "credentials[1].repositories[0]", "Duplicate"),
		Entry("a long repository", func() { cache.Credentials[0].Repositories[0] = strings.Repeat("x", 256) }, "credentials[0].repositories[0]", "255"),
		Entry("an empty repository", func() { cache.Credentials[0].Repositories[0] = "" }, "credentials[0].repositories[0]", "must be a repository"),
		Entry("a slash at the end", func() { cache.Credentials[0].Repositories[0] = "team-a/" }, "credentials[0].repositories[0]", "must be a repository"),
		Entry("a slash at the start", func() { cache.Credentials[0].Repositories[0] = "/team-a" }, "credentials[0].repositories[0]", "must be a repository"),
		Entry("a wildcard", func() { cache.Credentials[0].Repositories[0] = "team-a/*" }, "credentials[0].repositories[0]", "without a wildcard"),
		Entry("capitals", func() { cache.Credentials[0].Repositories[0] = "Team-A" }, "credentials[0].repositories[0]", "in lower case"),
		Entry("parents", func() { cache.Credentials[0].Repositories[0] = "../team-a" }, "credentials[0].repositories[0]", "must be a repository"),
		Entry("a tag", func() { cache.Credentials[0].Repositories[0] = "team-a:v1" }, "credentials[0].repositories[0]", "must be a repository"),
		Entry("a line break", func() { cache.Credentials[0].Repositories[0] = "team-a\n" }, "credentials[0].repositories[0]", "must be a repository"),
		Entry("an invalid key", func() { cache.Credentials[1].UsernameKey = new("a/b") }, "credentials[1].usernameKey", "must be a key of the referenced Secret"),
		Entry("an empty key", func() { cache.Credentials[1].PasswordKey = new("") }, "credentials[1].passwordKey", "must be a key of the referenced Secret"),
		Entry("a long key", func() { cache.PasswordKey = new(strings.Repeat("x", 254)) }, "passwordKey", "253"),
		Entry("the same key twice", func() { cache.Credentials[1].PasswordKey = new("user") }, "credentials[1].passwordKey", "must differ"),
		Entry("a key that is the default of the other", func() { cache.UsernameKey = new("password") }, "passwordKey", "must differ"),
		Entry("a key without a reference", func() { cache.SecretReferenceName, cache.UsernameKey = nil, new("user") }, "usernameKey", "secretReferenceName is unset"),
	)

	It("does not validate what an update leaves alone", func() {
		cache.UsernameKey, cache.Credentials[0].Repositories[0] = new("a/b"), "Team-A"
		Expect(validate(*cache.DeepCopy())).To(BeEmpty())
	})

	It("refuses more than 150 caches and credentials together", func() {
		config := &registry.RegistryConfig{}
		for i := range 140 {
			config.Caches = append(config.Caches, registry.RegistryCache{Upstream: fmt.Sprintf("r%d.example.com", i)})
		}
		for i := range 10 {
			config.Caches[i].Credentials = []registry.RepositoryCredential{{Repositories: []string{"a"}, SecretReferenceName: "x"}}
		}
		Expect(validation.ValidateCount(config, &registry.RegistryConfig{}, nil)).To(BeEmpty())
		config.Caches[10].Credentials = config.Caches[0].Credentials
		Expect(validation.ValidateCount(config, &registry.RegistryConfig{}, nil)).To(ConsistOf(
			HaveField("Detail", "must have at most 150 caches and credentials together, but has 140 caches with 11 credentials")))
		Expect(validation.ValidateCount(config, config, nil)).To(BeEmpty())
	})
})
