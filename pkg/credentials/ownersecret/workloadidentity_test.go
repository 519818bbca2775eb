// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ownersecret_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
)

var _ = Describe("WorkloadIdentity", func() {
	const (
		ecr    = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
		aws    = `{"apiVersion":"aws.provider.extensions.gardener.cloud/v1alpha1","kind":"WorkloadIdentityConfig","roleARN":"arn:aws:iam::123456789012:role/puller"}`
		azure  = `{"clientID":"22222222-2222-2222-2222-222222222222","tenantID":"11111111-1111-1111-1111-111111111111","subscriptionID":"3"}`
		google = `{"projectID":"p","credentialsConfig":{"type":"external_account","universe_domain":"googleapis.com",` +
			`"audience":"//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/gardener",` +
			`"subject_token_type":"urn:ietf:params:oauth:token-type:jwt","token_url":"https://sts.googleapis.com/v1/token"}}`
	)
	identity := func(provider, config, token string) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "garden-dev", Name: "puller", Labels: map[string]string{
				"workloadidentity.security.gardener.cloud/provider": provider,
			}},
			Data: map[string][]byte{"config": []byte(config), "token": []byte(token)},
		}
	}

	DescribeTable("accepts the identity of the upstream's cloud", func(provider, config string, use ownersecret.Use) {
		material, errs := ownersecret.WorkloadIdentity(identity(provider, config, "hunter2\n"), use, fldPath)
		Expect(errs).To(BeEmpty())
		Expect(material.WorkloadIdentity).To(Equal(credentials.WorkloadIdentity{Provider: credentials.Provider(provider), Config: config, Token: "hunter2"}))
	},
		Entry("AWS", "aws", aws, ownersecret.Use{Upstream: ecr}),
		Entry("AWS behind another name", "aws", aws, ownersecret.Use{Upstream: "images.example.com", RemoteURL: "https://" + ecr}),
		Entry("the public gallery", "aws", aws, ownersecret.Use{Upstream: "public.ecr.aws"}),
		Entry("Azure", "azure", azure, ownersecret.Use{Upstream: "contoso.azurecr.io"}),
		Entry("Azure with a port", "azure", azure, ownersecret.Use{Upstream: "contoso.azurecr.io:443"}),
		Entry("Google", "gcp", google, ownersecret.Use{Upstream: "europe-docker.pkg.dev"}),
	)

	DescribeTable("refuses", func(provider, config, token string, use ownersecret.Use, detail string) {
		_, errs := ownersecret.WorkloadIdentity(identity(provider, config, token), use, fldPath)
		Expect(errs).To(details(detail))
		for _, err := range errs {
			Expect(err.Field).To(Equal("spec.resources[0]"))
			Expect(err.BadValue).To(Equal("garden-dev/puller"))
			Expect(err.Error()).NotTo(ContainSubstring("hunter2"))
		}
	},
		Entry("an upstream outside the clouds", "aws", aws, "hunter2", ownersecret.Use{Upstream: "ghcr.io"}, `"ghcr.io" is none of them`),
		Entry("a remote URL outside the clouds", "aws", aws, "hunter2", ownersecret.Use{Upstream: ecr, RemoteURL: "https://vpce.example.com"}, "reference a Secret"),
		Entry("another provider", "azure", azure, "hunter2", ownersecret.Use{Upstream: ecr}, `must have spec.targetSystem.type "aws"`),
		Entry("an unknown provider", "hunter2", aws, "hunter2", ownersecret.Use{Upstream: ecr}, `must have spec.targetSystem.type "aws"`),
		Entry("an invalid configuration", "aws", `{"roleARN":"hunter2"}`, "x", ownersecret.Use{Upstream: ecr}, "roleARN must be the ARN of a role"),
		Entry("no configuration", "aws", "", "hunter2", ownersecret.Use{Upstream: ecr}, "not a JSON object"),
		Entry("a tenant with a path", "azure", `{"clientID":"22222222-2222-2222-2222-222222222222","tenantID":"hunter2/x"}`, "x", ownersecret.Use{Upstream: "contoso.azurecr.io"}, "tenantID must be a UUID"),
		Entry("a token with a line break", "aws", aws, "hunter2\nx", ownersecret.Use{Upstream: ecr}, "the token that Gardener issued"),
		Entry("names of keys", "aws", aws, "hunter2", ownersecret.Use{Upstream: ecr, UsernameKey: "user"}, "remove usernameKey and passwordKey"),
	)
})
