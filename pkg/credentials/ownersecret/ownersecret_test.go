// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ownersecret_test

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"strconv"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gomegatypes "github.com/onsi/gomega/types"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
)

var (
	fldPath = field.NewPath("spec", "resources").Index(0)

	// serviceAccountKey has all fields of a key file.
	serviceAccountKey = map[string]any{
		"type": "service_account", "project_id": "p", "client_email": "robot@p.iam.gserviceaccount.com", "universe_domain": "googleapis.com",
		"auth_uri": "https://a", "auth_provider_x509_cert_url": "https://b", "client_x509_cert_url": "https://c", "client_id": "1",
		"private_key_id": "2", "private_key": "-----BEGIN PRIVATE KEY-----\n…", "token_uri": "https://d",
	}
)

func newSecret(username, password string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "garden-dev", Name: "robot-v1"},
		Type:       corev1.SecretTypeOpaque,
		Immutable:  new(true),
		Data:       map[string][]byte{"username": []byte(username), "password": []byte(password)},
	}
}

// use is the use of a Secret for a registry.
var use = ownersecret.Use{Upstream: "registry.example.com", RemoteURL: "https://registry.example.com"}

// extract returns the credential in a Secret.
func extract(secret *corev1.Secret) (credentials.Credential, field.ErrorList) {
	material, errs := ownersecret.Parse(secret).Material(use, fldPath)
	return material.Credential, errs
}

func validate(secret *corev1.Secret) field.ErrorList {
	return ownersecret.Parse(secret).Validate(use, fldPath)
}

func keyWith(changes map[string]any) string {
	GinkgoHelper()
	key := maps.Clone(serviceAccountKey)
	maps.Copy(key, changes)
	maps.DeleteFunc(key, func(_ string, value any) bool { return value == nil })
	data, err := json.Marshal(key)
	Expect(err).NotTo(HaveOccurred())
	return string(data)
}

var _ = Describe("Credential", func() {
	DescribeTable("keeps every byte",
		func(username, password string) {
			credential, errs := extract(newSecret(username, password))
			Expect(errs).To(BeEmpty())
			Expect(credential.Username).To(Equal(username))
			Expect(credential.Password).To(Equal(password))
		},
		Entry("plain", "john", "hunter2"),
		Entry("robot account", "robot$puller", "x"),
		Entry("YAML syntax", "*john", "null"),
		Entry("quotes", `"x"`, `"'`+"`"),
		Entry("colons, comments and percent signs", "john", "a:b#c%d %41"),
		Entry("surrounding white space", "john", " x\n"),
		Entry("line breaks", "john", "x\nproxy:\n  password: y\r\n"),
		Entry("control characters and zero", "john", "\x00\x01\x7f"),
		Entry("invalid UTF-8", "john", "\xff\xfe"),
		Entry("long", "john", strings.Repeat("ä", 2048)),
		Entry("non-ASCII letters", "jöhn", "пароль"),
		Entry("JSON with another user name than _json_key", "json_key", `{"a":1}`),
	)

	It("does not show the keys and the type of an invalid Secret", func() {
		secret := newSecret("john", "hunter2")
		secret.Type, secret.Data = "example.com/type", map[string][]byte{"api-token": nil}
		_, errs := extract(secret)
		Expect(errs.ToAggregate()).To(MatchError(Not(Or(ContainSubstring("example.com"), ContainSubstring("api-token")))))
	})

	It("accepts a Secret of type kubernetes.io/basic-auth", func() {
		secret := newSecret("john", "hunter2")
		secret.Type = corev1.SecretTypeBasicAuth
		credential, errs := extract(secret)
		Expect(errs).To(BeEmpty())
		Expect(credential).To(Equal(credentials.Credential{Username: "john", Password: "hunter2"}))
	})

	It("accepts a Secret with an unset type", func() {
		secret := newSecret("john", "hunter2")
		secret.Type = ""
		_, errs := extract(secret)
		Expect(errs).To(BeEmpty())
	})

	DescribeTable("accepts keys of service accounts",
		func(key string) {
			credential, errs := extract(newSecret("_json_key", key))
			Expect(errs).To(BeEmpty())
			Expect(credential.Password).To(Equal(key))
		},
		Entry("with all fields", func() string { data, _ := json.MarshalIndent(serviceAccountKey, "", "  "); return string(data) + "\n" }()),
		Entry("with the required fields", `{"type":"service_account","client_email":"e","private_key":"k"}`),
	)

	DescribeTable("refuses invalid keys of service accounts",
		func(key func() string, message string) {
			_, errs := extract(newSecret("_json_key", key()))
			Expect(errs).To(ConsistOf(HaveField("Detail", And(ContainSubstring(`"password"`), ContainSubstring(message)))))
		},
		Entry("text", func() string { return "hunter2" }, "is not valid JSON"),
		Entry("truncated", func() string { return keyWith(nil)[:100] }, "is not valid JSON"),
		Entry("two objects", func() string { return keyWith(nil) + "{}" }, "is not valid JSON"),
		Entry("array", func() string { return "[" + keyWith(nil) + "]" }, "is not a JSON object"),
		Entry("string", func() string { return `"x"` }, "is not a JSON object"),
		Entry("null", func() string { return "null" }, "is not a JSON object"),
		Entry("empty object", func() string { return "{}" }, `must be "service_account"`),
		Entry("another type", func() string { return keyWith(map[string]any{"type": "external_account"}) }, `must be "service_account"`),
		Entry("no type", func() string { return keyWith(map[string]any{"type": nil}) }, `must be "service_account"`),
		Entry("no e-mail address", func() string { return keyWith(map[string]any{"client_email": nil}) }, "client_email"),
		Entry("no private key", func() string { return keyWith(map[string]any{"private_key": nil}) }, "private_key"),
		Entry("blank private key", func() string { return keyWith(map[string]any{"private_key": "\n"}) }, "private_key"),
		Entry("unknown field", func() string { return keyWith(map[string]any{"credential_source": "x"}) }, `must not have the field "credential_source"`),
		Entry("field in another case", func() string { return keyWith(map[string]any{"Token_URI": "https://evil"}) }, `must not have the field "Token_URI"`),
		Entry("object instead of a string", func() string { return keyWith(map[string]any{"token_uri": map[string]any{"x": "y"}}) }, `the field "token_uri" of a service account key must be a string`),
		Entry("duplicate field", func() string {
			return `{"type":"external_account",` + strings.TrimPrefix(keyWith(nil), "{")
		}, `has the field "type" twice`),
	)

	DescribeTable("refuses invalid Secrets",
		func(change func(*corev1.Secret), expected gomegatypes.GomegaMatcher) {
			secret := newSecret("john", "hunter2")
			change(secret)
			credential, errs := extract(secret)
			Expect(credential).To(BeZero())
			Expect(errs).To(expected)
			for _, err := range errs {
				Expect(err.Type).To(Equal(field.ErrorTypeInvalid))
				Expect(err.Field).To(Equal("spec.resources[0]"))
				Expect(err.BadValue).To(Equal("garden-dev/robot-v1"))
				Expect(err.Error()).NotTo(ContainSubstring("hunter2"))
			}
		},
		Entry("mutable", func(s *corev1.Secret) { s.Immutable = new(false) }, details("immutable: true")),
		Entry("mutable by default", func(s *corev1.Secret) { s.Immutable = nil }, details("immutable: true")),
		Entry("another type", func(s *corev1.Secret) { s.Type = corev1.SecretTypeSSHAuth }, details("must be of type Opaque, kubernetes.io/basic-auth or kubernetes.io/dockerconfigjson")),
		Entry("an outdated Docker configuration", func(s *corev1.Secret) { s.Type = corev1.SecretTypeDockercfg }, details("kubectl create secret docker-registry")),
		Entry("no data", func(s *corev1.Secret) { s.Data = nil }, details(`the key "username"`, `the key "password"`)),
		Entry("no password", func(s *corev1.Secret) { delete(s.Data, "password") }, details(`the key "password"`)),
		Entry("more keys", func(s *corev1.Secret) { s.Data["b"], s.Data["a"] = nil, nil }, details("remove the others")),
		Entry("many keys", func(s *corev1.Secret) {
			for i := range 10_000 {
				s.Data[strconv.Itoa(i)] = nil
			}
		}, details("remove the others")),
		Entry("empty user name", func(s *corev1.Secret) { s.Data["username"] = nil }, details("user name must not be empty or blank")),
		Entry("blank user name", func(s *corev1.Secret) { s.Data["username"] = []byte(" \t\n") }, details("user name must not be empty or blank")),
		Entry("user name with a line break", func(s *corev1.Secret) { s.Data["username"] = []byte("john\n") }, details("white space")),
		Entry("user name with a space", func(s *corev1.Secret) { s.Data["username"] = []byte("john doe") }, details("white space")),
		Entry("user name with a no-break space", func(s *corev1.Secret) { s.Data["username"] = []byte("john\u00a0doe") }, details("white space")),
		Entry("user name with a colon", func(s *corev1.Secret) { s.Data["username"] = []byte("jo:hn") }, details("colon")),
		Entry("user name with a control character", func(s *corev1.Secret) { s.Data["username"] = []byte("jo\x07hn") }, details("control characters")),
		Entry("empty password", func(s *corev1.Secret) { s.Data["password"] = nil }, details("password must not be empty or blank")),
		Entry("blank password", func(s *corev1.Secret) { s.Data["password"] = []byte("\r\n ") }, details("password must not be empty or blank")),
		Entry("everything at once", func(s *corev1.Secret) {
			s.Immutable, s.Type, s.Data["username"], s.Data["password"], s.Data["x"] = nil, "my/type", []byte(""), []byte(""), nil
		}, HaveLen(5)),
	)

	It("names a field that is not allowed only if it looks like one", func() {
		_, errs := extract(newSecret("_json_key", keyWith(map[string]any{"credential_source": "hunter2"})))
		Expect(errs).To(details(`must not have the field "credential_source"; remove it`))
		for _, name := range []string{"hunter2", "", "-----BEGIN", strings.Repeat("x", 41), "a\nb"} {
			_, errs := extract(newSecret("_json_key", keyWith(map[string]any{name: "x"})))
			Expect(errs).To(details("must not have a field with a name that is not shown here"))
		}
	})

	It("never shows a part of a key", func() {
		for _, key := range []string{keyWith(map[string]any{"hunter2": "hunter2"}), `{"hunter2"`, `{"type":"hunter2"}`} {
			_, errs := extract(newSecret("_json_key", key))
			Expect(errs.ToAggregate()).To(MatchError(Not(ContainSubstring("hunter2"))))
		}
	})
})

var _ = Describe("Validate", func() {
	DescribeTable("accepts",
		func(username, password string) {
			Expect(validate(newSecret(username, password))).To(BeEmpty())
		},
		Entry("a plain password", "john", "hunter2"),
		Entry("white space", "john", " a b "),
		Entry("non-ASCII letters", "john", "пароль"),
		Entry("invalid UTF-8", "john", "\xff\xfe"),
		Entry("a long token", "john", strings.Repeat("x", 8192)),
		Entry("JSON in Base64", "_json_key_base64", base64.StdEncoding.EncodeToString([]byte(keyWith(nil)))),
		Entry("JSON with line breaks", "_json_key", strings.ReplaceAll(keyWith(nil), ",", ",\r\n\t")+"\n"),
	)

	DescribeTable("refuses passwords that HTTP does not allow, but Credential keeps",
		func(password, detail string) {
			secret := newSecret("john", password)
			Expect(validate(secret)).To(details(detail))
			credential, errs := extract(secret)
			Expect(errs).To(BeEmpty())
			Expect(credential.Password).To(Equal(password))
		},
		Entry("zero", "x\x00", "control characters"),
		Entry("line break", "x\n", "including line breaks"),
		Entry("line break in the middle", "x\r\ny", "control characters"),
		Entry("tab", "x\ty", "control characters"),
		Entry("delete", "x\x7f", "control characters"),
		Entry("too long", strings.Repeat("x", 20_000), "16384 bytes"),
	)

	DescribeTable("refuses keys of service accounts in Base64 that are invalid, but Material keeps",
		func(password, detail string) {
			secret := newSecret("_json_key_base64", password)
			Expect(validate(secret)).To(details(detail))
			Expect(extract(secret)).To(Equal(credentials.Credential{Username: "_json_key_base64", Password: password}))
		},
		Entry("not Base64", "hunter2-", "base64 -w0"),
		Entry("with line breaks", base64.StdEncoding.EncodeToString([]byte(keyWith(nil)))[:76]+"\n", "line breaks"),
		Entry("not JSON", base64.StdEncoding.EncodeToString([]byte("hunter2")), "_json_key_base64, the password must be the JSON key of a Google service account, but is not valid JSON"),
		Entry("a field that is not allowed", base64.StdEncoding.EncodeToString([]byte(keyWith(map[string]any{"credential_source": "x"}))), `must not have the field "credential_source"`),
	)

	It("reports the errors of Credential", func() {
		secret := newSecret("jo:hn", "")
		_, errs := extract(secret)
		Expect(errs).To(HaveLen(2))
		Expect(validate(secret)).To(Equal(errs))
	})
})

// details matches errors that each contain one of the given texts.
func details(texts ...string) gomegatypes.GomegaMatcher {
	matchers := make([]any, len(texts))
	for i, text := range texts {
		matchers[i] = HaveField("Detail", ContainSubstring(text))
	}
	return ConsistOf(matchers...)
}
