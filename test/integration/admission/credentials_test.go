// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"encoding/base64"
	"fmt"
	"strings"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	securityv1alpha1 "github.com/gardener/gardener/pkg/apis/security/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// canary is part of each secret value here, so that an error that quotes a value is noticed. The matcher beDenied looks
// for it as it is; canaries has its other forms.
const canary = "hunter2"

var canaries = []string{
	base64.StdEncoding.EncodeToString([]byte(canary)), base64.StdEncoding.EncodeToString([]byte("john:" + canary)), "AKIA", "PRIVATE KEY",
}

var _ = Describe("Validation of credentials", func() {
	const (
		ecrUpstream = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
		role        = "arn:aws:iam::123456789012:role/puller"
	)
	cacheOf := func(upstream string) string {
		return fmt.Sprintf(`{"upstream":%q,"secretReferenceName":"robot"}`, upstream)
	}
	secretOf := func(kind corev1.SecretType, data map[string]string) func() *corev1.Secret {
		return func() *corev1.Secret {
			return newSecret(func(s *corev1.Secret) { s.Type, s.Data, s.StringData = kind, nil, data })
		}
	}
	opaque := func(data map[string]string) func() *corev1.Secret { return secretOf(corev1.SecretTypeOpaque, data) }
	docker := func(config string) func() *corev1.Secret {
		return secretOf(corev1.SecretTypeDockerConfigJson, map[string]string{corev1.DockerConfigJsonKey: config})
	}
	accessKey := func(changes ...string) map[string]string {
		data := map[string]string{"accessKeyID": "AKIAIOSFODNN7EXAMPLE", "secretAccessKey": canary + canary}
		for i := 0; i < len(changes); i += 2 {
			data[changes[i]] = changes[i+1]
		}
		return data
	}
	pair := base64.StdEncoding.EncodeToString([]byte("john:" + canary))
	serviceAccount := `{"type":"service_account","project_id":"p","private_key_id":"i","private_key":"-----BEGIN PRIVATE KEY-----` + canary +
		`","client_email":"puller@p.iam.gserviceaccount.com","client_id":"1","token_uri":"https://oauth2.googleapis.com/token"%s}`

	DescribeTable("accepts each form, and a rotation to another Secret of it", func(upstream string, secret func() *corev1.Secret) {
		shoot := newShoot(caches(cacheOf(upstream)), resource(secret()))
		Expect(create(shoot)).To(Succeed())
		Expect(update(shoot, resource(secret()))).To(Succeed())
	},
		Entry("basic-auth", "private.example.com", secretOf(corev1.SecretTypeBasicAuth, map[string]string{"username": "john", "password": canary})),
		Entry("docker, with auth", "private.example.com", docker(`{"auths":{"https://private.example.com/v2/":{"auth":"`+pair+`"}}}`)),
		Entry("docker, with an identity token", "private.example.com", docker(`{"auths":{"private.example.com":{"identitytoken":"`+canary+`"}}}`)),
		Entry("docker, with a registry token", "private.example.com", docker(`{"auths":{"private.example.com":{"registrytoken":"`+canary+`"}}}`)),
		Entry("docker, for Docker Hub", "docker.io", docker(`{"auths":{"https://index.docker.io/v1/":{"username":"john","password":"`+canary+`"}}}`)),
		Entry("service account key", "europe-docker.pkg.dev", opaque(map[string]string{"username": "_json_key", "password": fmt.Sprintf(serviceAccount, "")})),
		Entry("service account key in Base64", "europe-docker.pkg.dev", opaque(map[string]string{
			"username": "_json_key_base64", "password": base64.StdEncoding.EncodeToString(fmt.Appendf(nil, serviceAccount, "")),
		})),
		Entry("AWS access key", ecrUpstream, opaque(accessKey())),
		Entry("AWS access key with a role", ecrUpstream, opaque(accessKey("roleARN", role))),
		Entry("AWS access key for the public gallery", "public.ecr.aws", opaque(accessKey())),
	)

	DescribeTable("names the field, the reason and the remedy, and quotes no value:",
		func(upstream string, secret func() *corev1.Secret, message string) {
			err := create(newShoot(caches(cacheOf(upstream)), resource(secret())))
			Expect(err).To(beDenied(secretReference, message))
			for _, other := range canaries {
				Expect(err).NotTo(MatchError(ContainSubstring(other)))
			}
		},
		Entry("basic-auth with another key", "private.example.com",
			secretOf(corev1.SecretTypeBasicAuth, map[string]string{"username": "john", "password": canary, "token": canary}), "remove the others"),
		Entry("the outdated dockercfg", "private.example.com",
			secretOf(corev1.SecretTypeDockercfg, map[string]string{corev1.DockerConfigKey: `{"private.example.com":{"auth":"` + pair + `"}}`}),
			"create it with `kubectl create secret docker-registry`"),
		Entry("docker without an entry for the upstream", "private.example.com",
			docker(`{"auths":{"quay.io":{"auth":"`+pair+`"},"https://index.docker.io/v1/":{"auth":"`+pair+`"}}}`), `there is no entry for the upstream "private.example.com"`),
		Entry("docker, the hosts that are there", "private.example.com",
			docker(`{"auths":{"quay.io":{"auth":"`+pair+`"}}}`), "quay.io"),
		Entry("docker with an auth that is no pair", "private.example.com",
			docker(`{"auths":{"private.example.com":{"auth":"`+base64.StdEncoding.EncodeToString([]byte(canary))+`"}}}`), `the entry for the upstream "private.example.com" is invalid`),
		Entry("docker with credential helpers", "private.example.com",
			docker(`{"auths":{},"credHelpers":{"private.example.com":"`+canary+`"}}`), "must not have credsStore or credHelpers"),
		Entry("docker with entries for paths only", "private.example.com",
			docker(`{"auths":{"private.example.com/a":{"auth":"`+pair+`"},"private.example.com/b":{"auth":"`+pair+`"}}}`), "reference the Secret in credentials[]"),
		Entry("a service account key with a field that is not allowed", "europe-docker.pkg.dev",
			opaque(map[string]string{"username": "_json_key", "password": fmt.Sprintf(serviceAccount, `,"universe_domain":"`+canary+`","credential_source":{"url":"`+canary+`"}`)}),
			`must not have the field "credential_source"`),
		Entry("a service account key with a field of another type", "europe-docker.pkg.dev",
			opaque(map[string]string{"username": "_json_key", "password": `{"type":"service_account","client_email":["` + canary + `"]}`}),
			`the field "client_email" of a service account key must be a string`),
		Entry("another type of key", "europe-docker.pkg.dev",
			opaque(map[string]string{"username": "_json_key", "password": `{"type":"external_account","audience":"` + canary + `"}`}), "remove it, the allowed fields are"),
		Entry("a service account key that is no JSON", "europe-docker.pkg.dev",
			opaque(map[string]string{"username": "_json_key", "password": canary}), "must be the JSON key of a Google service account"),
		Entry("a service account key that is no Base64", "europe-docker.pkg.dev",
			opaque(map[string]string{"username": "_json_key_base64", "password": "*"}), "base64 -w0"),
		Entry("an AWS access key for another registry", "private.example.com", opaque(accessKey()), `is only valid for Amazon ECR, and "private.example.com" is no registry`),
		Entry("an AWS access key without the secret", ecrUpstream, opaque(map[string]string{"accessKeyID": "AKIAIOSFODNN7EXAMPLE"}), `must have the key "secretAccessKey"`),
		Entry("a temporary AWS access key without its token", ecrUpstream, opaque(accessKey("accessKeyID", "ASIAIOSFODNN7EXAMPLE")), `must have the key "sessionToken"`),
		Entry("exchanged keys of AWS", ecrUpstream, opaque(accessKey("accessKeyID", canary)), "16 to 128 capital letters and digits"),
		Entry("a role that is no ARN", ecrUpstream, opaque(accessKey("roleARN", canary)), "must be the ARN of a role"),
		Entry("a long token", "private.example.com",
			docker(`{"auths":{"private.example.com":{"identitytoken":"`+strings.Repeat(canary, 3000)+`"}}}`), "more than 16384 bytes"),
	)

	It("finds a user name and a password under other keys", func() {
		const named = `{"upstream":"private.example.com","secretReferenceName":"robot","usernameKey":"user","passwordKey":"token"}`
		data := map[string]string{"user": "john", "token": canary, "url": "https://private.example.com"}
		Expect(create(newShoot(caches(named), resource(opaque(data)())))).To(Succeed())
		delete(data, "token")
		Expect(create(newShoot(caches(named), resource(opaque(data)())))).To(beDenied(secretReference, `must have the key "token"`))
		Expect(create(newShoot(caches(`{"upstream":"private.example.com","usernameKey":"user"}`)))).
			To(beDenied(cachesPath+"[0].usernameKey", "secretReferenceName is unset; set it, or remove this field"))
	})

	Describe("for some repositories", func() {
		const credentialsPath = cachesPath + "[0].credentials"
		const twoTeams = `{"upstream":"private.example.com","secretReferenceName":"robot","credentials":[` +
			`{"repositories":["team-a"],"secretReferenceName":"a"},{"repositories":["team-b/app","team-b/base"],"secretReferenceName":"b"}]}`

		It("are accepted and rotated each by itself", func() {
			shoot := newShoot(caches(twoTeams), resource(newSecret()), resource(newSecret(), "a"), resource(newSecret(), "b"))
			Expect(create(shoot)).To(Succeed())
			Expect(update(shoot, resource(newSecret(), "b"))).To(Succeed())
			err := update(shoot, resource(newSecret(func(s *corev1.Secret) { s.Data["password"] = nil }), "a"))
			Expect(err).To(beDenied(credentialsPath+"[0].secretReferenceName", "password must not be empty"))
			Expect(err).NotTo(MatchError(ContainSubstring("[1]")))
		})

		DescribeTable("are refused:", func(list, field, message string) {
			Expect(create(newShoot(caches(`{"upstream":"private.example.com","credentials":[`+list+`]}`), resource(newSecret())))).
				To(beDenied(credentialsPath+field, message))
		},
			Entry("for no repository", `{"repositories":[],"secretReferenceName":"robot"}`, "[0].repositories", "at least one repository"),
			Entry("for a repository twice", `{"repositories":["a"],"secretReferenceName":"robot"},{"repositories":["a"],"secretReferenceName":"robot"}`, "[1].repositories[0]", "Duplicate value"),
			Entry("for a pattern", `{"repositories":["team-*"],"secretReferenceName":"robot"}`, "[0].repositories[0]", "Invalid value"),
			Entry("for a tag", `{"repositories":["team/app:v1"],"secretReferenceName":"robot"}`, "[0].repositories[0]", "Invalid value"),
			Entry("without a Secret", `{"repositories":["a"]}`, "[0].secretReferenceName", "Required value"),
			Entry("without an entry in spec.resources", `{"repositories":["a"],"secretReferenceName":"other"}`, "[0].secretReferenceName", "there is no entry with this name in spec.resources"),
			Entry("more than there can be", strings.Repeat(`{"repositories":["a"],"secretReferenceName":"robot"},`, 16)+`{"repositories":["a"],"secretReferenceName":"robot"}`, "", "at most 16 items"),
		)
	})

	Describe("of workload identities", func() {
		const config = `{"apiVersion":"aws.provider.extensions.gardener.cloud/v1alpha1","kind":"WorkloadIdentityConfig","roleARN":"` + role + `"}`
		identityReference := func(name string) change {
			return func(shoot *gardencorev1beta1.Shoot) {
				reference(name, "WorkloadIdentity")(shoot)
				shoot.Spec.Resources[0].ResourceRef.APIVersion = securityv1alpha1.SchemeGroupVersion.String()
			}
		}
		newIdentity := func(provider, config string) change {
			GinkgoHelper()
			identity := &securityv1alpha1.WorkloadIdentity{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "puller-"},
				Spec: securityv1alpha1.WorkloadIdentitySpec{
					Audiences:    []string{"sts.amazonaws.com"},
					TargetSystem: securityv1alpha1.TargetSystem{Type: provider, ProviderConfig: &runtime.RawExtension{Raw: []byte(config)}},
				},
			}
			Expect(testClient.Create(ctx, identity)).To(Succeed())
			return identityReference(identity.Name)
		}

		It("are accepted for their cloud, instead of a Secret", func() {
			shoot := newShoot(caches(cacheOf(ecrUpstream)), resource(opaque(accessKey())()))
			Expect(create(shoot)).To(Succeed())
			Expect(update(shoot, newIdentity("aws", config))).To(Succeed())
		})

		It("must exist, as Gardener requires", func() {
			Expect(create(newShoot(caches(cacheOf(ecrUpstream)), identityReference("missing")))).To(MatchError(ContainSubstring(`"missing" not found`)))
		})

		It("are refused unless they are for the upstream's cloud, and are for a credential", func() {
			refused := func(text, field, message string, change change) {
				GinkgoHelper()
				Expect(create(newShoot(caches(text), change))).To(beDenied(cachesPath+"[0]."+field, message))
			}
			refused(cacheOf(ecrUpstream), "secretReferenceName", `must have spec.targetSystem.type "aws"`, newIdentity("azure", `{"clientID":"hunter2"}`))
			refused(cacheOf("private.example.com"), "secretReferenceName", "reference a Secret", newIdentity("aws", config))
			refused(cacheOf(ecrUpstream), "secretReferenceName", "invalid spec.targetSystem.providerConfig", newIdentity("aws", `{"roleARN":"hunter2"}`))
			refused(`{"upstream":"`+ecrUpstream+`","caBundleSecretReferenceName":"robot"}`, "caBundleSecretReferenceName", "must reference a Secret (v1), but", newIdentity("aws", config))
		})
	})
})
