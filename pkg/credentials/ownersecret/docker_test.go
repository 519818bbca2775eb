// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ownersecret_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
)

func newDockerSecret(config string) *corev1.Secret {
	secret := newSecret("", "")
	secret.Type = corev1.SecretTypeDockerConfigJson
	secret.Data = map[string][]byte{".dockerconfigjson": []byte(config)}
	return secret
}

// auth is an entry as kubectl writes it.
func auth(username, password string) map[string]string {
	return map[string]string{
		"username": username, "password": password, "auth": base64.StdEncoding.EncodeToString([]byte(username + ":" + password)),
	}
}

func dockerConfigOf(auths map[string]map[string]string) string {
	GinkgoHelper()
	data, err := json.Marshal(map[string]any{"auths": auths})
	Expect(err).NotTo(HaveOccurred())
	return string(data)
}

func useOf(upstream string, repositories ...string) ownersecret.Use {
	u := ownersecret.Use{Upstream: upstream, RemoteURL: "https://" + upstream, Repositories: repositories}
	if upstream == "docker.io" {
		u.RemoteURL = "https://registry-1.docker.io"
	}
	return u
}

var _ = Describe("Docker configuration", func() {
	DescribeTable("has the entry for the upstream",
		func(key, upstream string) {
			config := dockerConfigOf(map[string]map[string]string{key: auth("john", "hunter2:x"), "other.example.com": auth("other", "other")})
			material, errs := ownersecret.Parse(newDockerSecret(config)).Material(useOf(upstream), fldPath)
			Expect(errs).To(BeEmpty())
			Expect(material).To(Equal(credentials.Static(credentials.Credential{Username: "john", Password: "hunter2:x"})))
			Expect(ownersecret.Parse(newDockerSecret(config)).Validate(useOf(upstream), fldPath)).To(BeEmpty())
		},
		Entry("host", "registry.example.com", "registry.example.com"),
		Entry("scheme", "https://registry.example.com", "registry.example.com"),
		Entry("scheme and slash", "https://registry.example.com/", "registry.example.com"),
		Entry("version of the API", "https://registry.example.com/v2/", "registry.example.com"),
		Entry("capitals", "HTTPS://Registry.Example.com", "registry.example.com"),
		Entry("port", "registry.example.com:5000", "registry.example.com:5000"),
		Entry("port of the scheme in the key", "registry.example.com:443", "registry.example.com"),
		Entry("port of the scheme in the upstream", "registry.example.com", "registry.example.com:443"),
		Entry("wildcard", "*.example.com", "registry.example.com"),
		Entry("Docker Hub as kubectl and docker write it", "https://index.docker.io/v1/", "docker.io"),
		Entry("Docker Hub in image references", "docker.io", "docker.io"),
		Entry("API of Docker Hub", "registry-1.docker.io", "docker.io"),
		Entry("index of Docker Hub", "index.docker.io", "docker.io"),
		Entry("web site of Docker Hub", "https://registry.hub.docker.com/v2/", "docker.io"),
	)

	DescribeTable("does not have an entry for the upstream, and the error names the hosts",
		func(keys []string, upstream, message string) {
			auths := map[string]map[string]string{}
			for _, key := range keys {
				auths[key] = auth("john", "hunter2")
			}
			_, errs := ownersecret.Parse(newDockerSecret(dockerConfigOf(auths))).Material(useOf(upstream), fldPath)
			Expect(errs).To(details(`no entry for the upstream "` + upstream + `", ` + message))
			Expect(errs.ToAggregate()).To(MatchError(Not(ContainSubstring("hunter2"))))
		},
		Entry("none", nil, "ghcr.io", "and none for any other host"),
		Entry("others", []string{"https://quay.io", "docker.io/x"}, "ghcr.io", "only for docker.io, quay.io"),
		Entry("many", []string{"a.io", "b.io", "c.io", "d.io", "e.io", "f.io", "g.io"}, "ghcr.io", "only for a.io, b.io, c.io, d.io, e.io and 2 more"),
		Entry("a host with another port", []string{"ghcr.io:5000"}, "ghcr.io", "only for ghcr.io:5000"),
		Entry("a host with more labels", []string{"x.ghcr.io", "*.io"}, "a.b.io", "only for *.io, x.ghcr.io"),
		Entry("a host that ends alike", []string{"notghcr.io"}, "ghcr.io", "only for notghcr.io"),
		Entry("no host", []string{"https://john:hunter2@quay.io", "hunter2\n", "hunter2!", strings.Repeat("hunter2", 40)}, "ghcr.io", "and none for any other host"),
		Entry("a token in place of a host", []string{"hunter2_16characters", "eyj" + strings.Repeat("hunter2", 10) + "." + strings.Repeat("hunter2", 10)}, "ghcr.io", "and none for any other host"),
		Entry("localhost", []string{"localhost"}, "ghcr.io", "only for localhost"),
	)

	DescribeTable("has the most specific entry for repositories",
		func(repositories []string, username string) {
			config := dockerConfigOf(map[string]map[string]string{
				"registry.example.com":            auth("all", "x"),
				"registry.example.com/team-a":     auth("team-a", "x"),
				"registry.example.com/team-a/app": auth("app", "x"),
				"*.example.com/team-a":            auth("wildcard", "x"),
			})
			material, errs := ownersecret.Parse(newDockerSecret(config)).Material(useOf("registry.example.com", repositories...), fldPath)
			Expect(errs).To(BeEmpty())
			Expect(material.Credential.Username).To(Equal(username))
		},
		Entry("all", nil, "all"),
		Entry("a path", []string{"team-a"}, "team-a"),
		Entry("below a path", []string{"team-a/other"}, "team-a"),
		Entry("a longer path", []string{"team-a/app"}, "app"),
		Entry("a path and one below", []string{"team-a", "team-a/app"}, "team-a"),
		Entry("a path that begins alike", []string{"team-ab"}, "all"),
		Entry("two paths", []string{"team-a", "team-b"}, "all"),
	)

	It("does not present an entry with a path for the whole upstream", func() {
		content := ownersecret.Parse(newDockerSecret(dockerConfigOf(map[string]map[string]string{"registry.example.com/team-a": auth("a", "x")})))
		_, errs := content.Material(useOf("registry.example.com"), fldPath)
		Expect(errs).To(details("all have paths; reference the Secret in credentials[]"))
		material, errs := content.Material(useOf("registry.example.com", "team-a/app"), fldPath)
		Expect(errs).To(BeEmpty())
		Expect(material.Credential.Username).To(Equal("a"))
	})

	DescribeTable("does not choose between entries of the same host",
		func(keys []string, upstream string, repositories ...string) {
			auths := map[string]map[string]string{"registry.example.com/other": auth("other", "hunter2")}
			for _, key := range keys {
				auths[key] = auth("john", "hunter2")
			}
			material, errs := ownersecret.Parse(newDockerSecret(dockerConfigOf(auths))).Material(useOf(upstream, repositories...), fldPath)
			Expect(errs).To(BeEmpty(), "the credentials are equal")
			Expect(material.Credential.Username).To(Equal("john"))

			auths[keys[1]] = map[string]string{"auth": auth("john", "hunter3")["auth"]}
			_, errs = ownersecret.Parse(newDockerSecret(dockerConfigOf(auths))).Material(useOf(upstream, repositories...), fldPath)
			Expect(errs).To(details(`several entries for the upstream "` + upstream + `", whose credentials differ; keep one of them`))
			Expect(errs.ToAggregate()).To(MatchError(Not(ContainSubstring("hunter"))))
		},
		Entry("names of Docker Hub", []string{"docker.io", "https://index.docker.io/v1/"}, "docker.io"),
		Entry("schemes", []string{"registry.example.com", "https://registry.example.com"}, "registry.example.com"),
		Entry("paths", []string{"registry.example.com/team-a", "https://registry.example.com/team-a/"}, "registry.example.com", "team-a"),
		Entry("wildcards", []string{"*.example.com", "registry.*.com"}, "registry.example.com"),
	)

	It("may have auth without padding, as for the kubelet", func() {
		unpadded := strings.TrimRight(auth("john", "hunter22")["auth"], "=")
		Expect(unpadded).NotTo(Equal(auth("john", "hunter22")["auth"]))
		config := dockerConfigOf(map[string]map[string]string{"registry.example.com": {"auth": unpadded + "\n"}})
		material, errs := ownersecret.Parse(newDockerSecret(config)).Material(use, fldPath)
		Expect(errs).To(BeEmpty())
		Expect(material).To(Equal(credentials.Static(credentials.Credential{Username: "john", Password: "hunter22"})))
	})

	It("asks for the repositories if all entries for the upstream have paths", func() {
		content := ownersecret.Parse(newDockerSecret(dockerConfigOf(map[string]map[string]string{
			"registry.example.com/team-a": auth("a", "x"), "registry.example.com/team-b": auth("b", "x"),
		})))
		_, errs := content.Material(use, fldPath)
		Expect(errs).To(details("all have paths; reference the Secret in credentials[]"))
		_, errs = content.Material(useOf("registry.example.com", "team-c"), fldPath)
		Expect(errs).To(details("do not contain all repositories"))
	})

	It("prefers the entry for the upstream to that for its API", func() {
		content := ownersecret.Parse(newDockerSecret(dockerConfigOf(map[string]map[string]string{
			"api.example.com": auth("api", "x"), "registry.example.com": auth("registry", "x"),
		})))
		other := ownersecret.Use{Upstream: "registry.example.com", RemoteURL: "https://api.example.com"}
		material, errs := content.Material(other, fldPath)
		Expect(errs).To(BeEmpty())
		Expect(material.Credential.Username).To(Equal("registry"))
		other.Upstream = "alias.example.com"
		material, errs = content.Material(other, fldPath)
		Expect(errs).To(BeEmpty())
		Expect(material.Credential.Username).To(Equal("api"))
	})

	DescribeTable("has credentials in several fields",
		func(entry string, expected credentials.Credential) {
			material, errs := ownersecret.Parse(newDockerSecret(`{"auths":{"registry.example.com":`+entry+`}}`)).Material(use, fldPath)
			Expect(errs).To(BeEmpty())
			Expect(material).To(Equal(credentials.Static(expected)))
		},
		Entry("auth", `{"auth":"am9objpodW50ZXIy"}`, credentials.Credential{Username: "john", Password: "hunter2"}),
		Entry("user name and password", `{"username":"john","password":"hunter2"}`, credentials.Credential{Username: "john", Password: "hunter2"}),
		Entry("auth beside another password", `{"username":"x","password":"y","auth":"am9objpodW50ZXIy"}`, credentials.Credential{Username: "john", Password: "hunter2"}),
		Entry("identity token", `{"auth":"am9objo=","identitytoken":"hunter2"}`, credentials.Credential{Username: "john", IdentityToken: "hunter2"}),
		Entry("identity token alone", `{"identitytoken":"hunter2"}`, credentials.Credential{IdentityToken: "hunter2"}),
		Entry("registry token", `{"auth":"am9objo=","registrytoken":"hunter2"}`, credentials.Credential{RegistryToken: "hunter2"}),
		Entry("additional fields", `{"auth":"am9objpodW50ZXIy","email":"john@example.com"}`, credentials.Credential{Username: "john", Password: "hunter2"}),
	)

	DescribeTable("is refused", func(change func(*corev1.Secret), message string) {
		secret := newDockerSecret(dockerConfigOf(map[string]map[string]string{"registry.example.com": auth("john", "hunter2")}))
		change(secret)
		_, errs := ownersecret.Parse(secret).Material(use, fldPath)
		Expect(errs).To(details(message))
		Expect(errs.ToAggregate()).To(MatchError(Not(ContainSubstring("hunter2"))))
	},
		Entry("mutable", func(s *corev1.Secret) { s.Immutable = nil }, "must be immutable"),
		Entry("with more keys", func(s *corev1.Secret) { s.Data["hunter2"] = nil }, "remove the others"),
		Entry("without the key", func(s *corev1.Secret) { s.Data = nil }, `must have the key ".dockerconfigjson"`),
		Entry("not JSON", withConfig(`hunter2`), "must be a Docker configuration in JSON"),
		Entry("no object", withConfig(`["hunter2"]`), "must be a Docker configuration in JSON"),
		Entry("auths of another type", withConfig(`{"auths":"hunter2"}`), "must be a Docker configuration in JSON"),
		Entry("too long", withConfig(`{"hunter2":"`+strings.Repeat("x", 64<<10)+`"}`), "at most 65536 bytes"),
		Entry("a store", withConfig(`{"auths":{"registry.example.com":{}},"credsStore":"hunter2"}`), "must not have credsStore or credHelpers"),
		Entry("a helper", withConfig(`{"credHelpers":{"registry.example.com":"hunter2"}}`), "must not have credsStore or credHelpers"),
		Entry("an empty entry", withConfig(`{"auths":{"registry.example.com":{}}}`), "a user name must not be empty or blank"),
		Entry("an auth that is not Base64", withConfig(`{"auths":{"registry.example.com":{"auth":"hunter2!"}}}`), "user:password in Base64"),
		Entry("an auth without a colon", withConfig(`{"auths":{"registry.example.com":{"auth":"aHVudGVyMg=="}}}`), "user:password in Base64"),
		Entry("an empty password", withConfig(`{"auths":{"registry.example.com":{"auth":"am9objo="}}}`), "a password must not be empty or blank"),
		Entry("a service account key of another type", withConfig(`{"auths":{"registry.example.com":{"username":"_json_key","password":"{\"type\":\"hunter2\"}"}}}`), `must be "service_account"`),
		Entry("a token with a line break", withConfig(`{"auths":{"registry.example.com":{"registrytoken":"hunter2\n"}}}`), "printable ASCII"),
	)

	It("does not have other keys for the user name and the password", func() {
		named := use
		named.UsernameKey = "user"
		_, errs := ownersecret.Parse(newDockerSecret(dockerConfigOf(map[string]map[string]string{"registry.example.com": auth("john", "hunter2")}))).Material(named, fldPath)
		Expect(errs).To(details("usernameKey and passwordKey must be unset"))
	})

	It("is refused with a token that no header can carry", func() {
		config := fmt.Sprintf(`{"auths":{"registry.example.com":{"registrytoken":%q}}}`, strings.Repeat("x", 17<<10))
		Expect(ownersecret.Parse(newDockerSecret(config)).Validate(use, fldPath)).To(details("token of more than 16384 bytes"))
	})
})

func withConfig(config string) func(*corev1.Secret) {
	return func(s *corev1.Secret) { s.Data[".dockerconfigjson"] = []byte(config) }
}

// FuzzDockerConfig checks that no Docker configuration causes a crash, or an error that shows a secret.
func FuzzDockerConfig(f *testing.F) {
	for _, entry := range []string{`{"auth":"am9objpodW50ZXIy"}`, `{"identitytoken":"hunter2"}`, `{"username":"_json_key","password":"{}"}`, `null`} {
		f.Add("https://index.docker.io/v1/", entry, "docker.io")
	}
	f.Add("[*", "{}", "a.b")
	f.Fuzz(func(t *testing.T, key, entry, upstream string) {
		name, err := json.Marshal(key)
		if err != nil {
			t.Skip()
		}
		config := fmt.Sprintf(`{"auths":{%s:%s,"x":{"auth":"canary"}}}`, name, entry)
		material, errs := ownersecret.Parse(newDockerSecret(config)).Material(useOf(upstream, "team-a"), fldPath)
		if len(errs) == 0 && material.Validate() != nil {
			t.Errorf("%s: invalid material", config)
		}
		if err := errs.ToAggregate(); err != nil && strings.Contains(err.Error(), "canary") && !strings.Contains(upstream+key, "canary") {
			t.Errorf("%s: %v", config, err)
		}
	})
}

var _ = Describe("Pull secrets", func() {
	DescribeTable("need a user name and a password", func(upstream string, entry map[string]string, valid bool) {
		u := useOf(upstream)
		secret := newDockerSecret(dockerConfigOf(map[string]map[string]string{upstream: entry}))
		Expect(ownersecret.Parse(secret).Validate(u, fldPath)).To(BeEmpty(), "for a cache")
		u.PullSecret = true
		errs := ownersecret.Parse(secret).Validate(u, fldPath)
		if valid {
			Expect(errs).To(BeEmpty())
			return
		}
		Expect(errs).To(ConsistOf(HaveField("ErrorBody()", And(ContainSubstring("remove pullSecret from the cache"), Not(ContainSubstring("hunter2"))))))
		Expect(u.Same(useOf(upstream))).To(BeFalse(), "a Secret is validated again for a pull secret")
	},
		Entry("a user name and a password", "registry.example.com", auth("john", "hunter2"), true),
		Entry("an identity token", "registry.example.com", map[string]string{"identitytoken": "hunter2"}, false),
		Entry("an identity token that Azure takes as a password", "contoso.azurecr.io", map[string]string{"identitytoken": "hunter2"}, true),
		Entry("a registry token", "contoso.azurecr.io", map[string]string{"registrytoken": "hunter2"}, false),
	)
})
