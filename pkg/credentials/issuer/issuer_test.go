// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package issuer_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/issuer"
	"github.com/larder-project/larder/test/cloudsim"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/upstreamsim"
)

const (
	ecrHost  = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
	acrHost  = "contoso.azurecr.io"
	garHost  = "europe-docker.pkg.dev"
	keyID    = "AKIA0123456789ABCDEF"
	secret   = "hunter2/secretaccesskey"
	roleARN  = "arn:aws:iam::123456789012:role/puller"
	clientID = "22222222-2222-2222-2222-222222222222"
	account  = "puller@project.iam.gserviceaccount.com"
	subject  = "gardener.cloud:workloadidentity:garden-dev:puller:uid"
)

var _ = Describe("Issuer", func() {
	var (
		authority *pki.Authority
		cloud     *cloudsim.Cloud
		client    *http.Client
		ctx       context.Context
	)

	start := func(options cloudsim.Options) {
		GinkgoHelper()
		options.Authority = authority
		var err error
		cloud, err = cloudsim.Start(options)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(cloud.Close)
		roots := x509.NewCertPool()
		Expect(roots.AppendCertsFromPEM(authority.Certificate)).To(BeTrue())
		proxy, err := url.Parse(cloud.ProxyURL())
		Expect(err).NotTo(HaveOccurred())
		transport := &http.Transport{
			Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
		}
		DeferCleanup(transport.CloseIdleConnections)
		client = &http.Client{Transport: transport}
		cloud.AddKey(keyID, secret, "")
		cloud.Trust(clientID, subject)
		cloud.Trust(account, subject)
	}
	BeforeEach(func() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
		DeferCleanup(cancel)
		var err error
		authority, err = pki.NewAuthority("cloud")
		Expect(err).NotTo(HaveOccurred())
		start(cloudsim.Options{})
	})

	identity := func(provider credentials.Provider) credentials.Material {
		config := map[credentials.Provider]any{
			credentials.ProviderAWS:   map[string]string{"roleARN": roleARN},
			credentials.ProviderAzure: map[string]string{"clientID": clientID, "tenantID": cloudsim.AzureTenant, "subscriptionID": "x"},
			credentials.ProviderGoogle: map[string]any{"projectID": "project", "credentialsConfig": map[string]string{
				"type": "external_account", "universe_domain": "googleapis.com", "audience": cloudsim.GoogleAudience,
				"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": "https://sts.googleapis.com/v1/token",
				"service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/" + account + ":generateAccessToken",
			}},
		}[provider]
		data, err := json.Marshal(config)
		Expect(err).NotTo(HaveOccurred())
		return credentials.Material{WorkloadIdentity: credentials.WorkloadIdentity{
			Provider: provider, Config: string(data), Token: cloud.IdentityToken(subject, time.Hour),
		}}
	}
	withoutAccount := func(m credentials.Material) credentials.Material {
		m.WorkloadIdentity.Config = strings.Replace(m.WorkloadIdentity.Config, "service_account_impersonation_url", "ignored", 1)
		return m
	}
	keys := credentials.Material{AWS: credentials.AWSKeys{AccessKeyID: keyID, SecretAccessKey: secret}}
	withRole := credentials.Material{AWS: credentials.AWSKeys{AccessKeyID: keyID, SecretAccessKey: secret, RoleARN: roleARN}}

	issue := func(material credentials.Material, host string) (credentials.Credential, time.Time, error) {
		GinkgoHelper()
		i, err := issuer.New(material, host, client)
		Expect(err).NotTo(HaveOccurred())
		return i.Issue(ctx)
	}
	succeeds := func(material credentials.Material, host string) {
		GinkgoHelper()
		credential, expires, err := issue(material, host)
		Expect(err).NotTo(HaveOccurred())
		Expect(cloud.Accounts()).To(ContainElement(upstreamsim.Account{Username: credential.Username, Password: credential.Password}))
		Expect(expires).To(BeTemporally("~", time.Now().Add(time.Hour), 5*time.Second))
	}
	// refused returns the error of an issuer, which shows no secret of the request or a response.
	refused := func(material credentials.Material, host string) error {
		GinkgoHelper()
		_, _, err := issue(material, host)
		Expect(err).To(HaveOccurred())
		for _, hidden := range []string{secret, material.WorkloadIdentity.Token, "which is not valid", "ASIA", "ya29", "entra-"} {
			if hidden != "" {
				Expect(err.Error()).NotTo(ContainSubstring(hidden))
			}
		}
		return err
	}

	DescribeTable("issues a credential that the registry accepts", func(material func() credentials.Material, host, api string) {
		cloud.Trust(roleARN, keyID)
		m := material()
		if m.WorkloadIdentity.Provider == credentials.ProviderAWS {
			cloud.Trust(roleARN, subject)
		}
		cloud.Trust(cloudsim.GoogleAudience, subject)
		succeeds(m, host)
		Expect(cloud.Hosts()).To(HaveKey(api))
	},
		Entry("from an access key", func() credentials.Material { return keys }, ecrHost, "api.ecr.eu-central-1.amazonaws.com"),
		Entry("from an access key with a role", func() credentials.Material { return withRole }, ecrHost, "sts.eu-central-1.amazonaws.com"),
		Entry("from an access key with a role that requires an external ID", func() credentials.Material {
			cloud.RequireExternalID(roleARN, "shoot:dev/example")
			m := withRole
			m.AWS.ExternalID = "shoot:dev/example"
			return m
		}, ecrHost, "sts.eu-central-1.amazonaws.com"),
		Entry("from a temporary access key", func() credentials.Material {
			cloud.AddKey("ASIA0123456789ABCDEF", secret, "session")
			return credentials.Material{AWS: credentials.AWSKeys{AccessKeyID: "ASIA0123456789ABCDEF", SecretAccessKey: secret, SessionToken: "session"}}
		}, ecrHost, "api.ecr.eu-central-1.amazonaws.com"),
		Entry("from a workload identity of AWS", func() credentials.Material { return identity(credentials.ProviderAWS) }, ecrHost, "sts.eu-central-1.amazonaws.com"),
		Entry("for dual stack", func() credentials.Material { return withRole }, "123456789012.dkr-ecr.eu-central-1.on.aws", "sts.eu-central-1.api.aws"),
		Entry("for dual stack, at the registry's API", func() credentials.Material { return keys }, "123456789012.dkr-ecr.eu-central-1.on.aws", "ecr.eu-central-1.api.aws"),
		Entry("for FIPS", func() credentials.Material { return keys }, "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", "api.ecr-fips.us-east-1.amazonaws.com"),
		Entry("for GovCloud", func() credentials.Material { return keys }, "123456789012.dkr.ecr.us-gov-west-1.amazonaws.com", "api.ecr.us-gov-west-1.amazonaws.com"),
		Entry("for China", func() credentials.Material { return withRole }, "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "sts.cn-north-1.amazonaws.com.cn"),
		Entry("for the public gallery", func() credentials.Material { return keys }, "public.ecr.aws", "api.ecr-public.us-east-1.amazonaws.com"),
		Entry("for the public gallery, dual stack", func() credentials.Material { return keys }, "ecr-public.aws.com", "ecr-public.us-east-1.api.aws"),
		Entry("from a service account of Google", func() credentials.Material { return identity(credentials.ProviderGoogle) }, garHost, "iamcredentials.googleapis.com"),
		Entry("from a federated identity of Google", func() credentials.Material { return withoutAccount(identity(credentials.ProviderGoogle)) }, "eu.gcr.io", "sts.googleapis.com"),
		Entry("from a workload identity of Azure", func() credentials.Material { return identity(credentials.ProviderAzure) }, acrHost, "login.microsoftonline.com"),
		Entry("for Azure China", func() credentials.Material { return identity(credentials.ProviderAzure) }, "contoso.azurecr.cn", "login.partner.microsoftonline.cn"),
		Entry("for Azure Government", func() credentials.Material { return identity(credentials.ProviderAzure) }, "contoso.azurecr.us", "login.microsoftonline.us"),
	)

	It("finds the services of Amazon by the settings of its SDK", func() {
		GinkgoT().Setenv("AWS_ENDPOINT_URL_STS", cloud.URL())
		GinkgoT().Setenv("AWS_ENDPOINT_URL_ECR", cloud.URL())
		GinkgoT().Setenv("AWS_ENDPOINT_URL_ECR_PUBLIC", cloud.URL())
		cloud.Trust(roleARN, keyID)
		succeeds(withRole, ecrHost)
		succeeds(withRole, "public.ecr.aws")
		Expect(cloud.Hosts()).To(And(HaveLen(1), HaveKey("127.0.0.1")))
		Expect(cloud.Requests()).To(Equal(map[string]int{cloudsim.AssumeRole: 2, cloudsim.GetToken: 1, cloudsim.GetPublicToken: 1}))
	})

	It("ignores the credentials of the environment", func() {
		GinkgoT().Setenv("AWS_ACCESS_KEY_ID", keyID)
		GinkgoT().Setenv("AWS_SECRET_ACCESS_KEY", secret)
		err := refused(credentials.Material{AWS: credentials.AWSKeys{AccessKeyID: keyID, SecretAccessKey: "wrong"}}, ecrHost)
		Expect(err).To(MatchError("ecr:GetAuthorizationToken: InvalidSignatureException (status 400)"))
		Expect(issuer.Rejected(err)).To(BeTrue())
	})

	DescribeTable("issues credentials while the local clock is wrong", func(skew time.Duration) {
		start(cloudsim.Options{Skew: skew})
		cloud.Trust(roleARN, keyID)
		succeeds(withRole, ecrHost)
		cloud.Trust(roleARN, subject)
		for provider, host := range map[credentials.Provider]string{
			credentials.ProviderAWS: ecrHost, credentials.ProviderAzure: acrHost, credentials.ProviderGoogle: garHost,
		} {
			succeeds(identity(provider), host)
		}
	},
		Entry("by hours behind", 3*time.Hour),
		Entry("by hours ahead", -3*time.Hour),
	)

	DescribeTable("reports what a service rejects", func(material func() credentials.Material, host, expected string) {
		err := refused(material(), host)
		Expect(err).To(MatchError(expected))
		Expect(issuer.Rejected(err)).To(BeTrue())
	},
		Entry("an unknown access key", func() credentials.Material { cloud.RemoveKey(keyID); return keys }, ecrHost,
			"ecr:GetAuthorizationToken: UnrecognizedClientException (status 400)"),
		Entry("an unknown access key with a role", func() credentials.Material { cloud.RemoveKey(keyID); return withRole }, ecrHost,
			"sts:AssumeRole: InvalidClientTokenId (status 403)"),
		Entry("a role that the key may not assume", func() credentials.Material { return withRole }, ecrHost,
			"sts:AssumeRole: AccessDenied (status 403)"),
		Entry("a key without permissions", func() credentials.Material { cloud.DenyKey(keyID, secret); return keys }, ecrHost,
			"ecr:GetAuthorizationToken: AccessDeniedException (status 400)"),
		Entry("a key without permissions for the public gallery", func() credentials.Material { cloud.DenyKey(keyID, secret); return keys }, "public.ecr.aws",
			"ecr-public:GetAuthorizationToken: AccessDeniedException (status 400)"),
		Entry("a role that does not trust the identity", func() credentials.Material { return identity(credentials.ProviderAWS) }, ecrHost,
			"sts:AssumeRoleWithWebIdentity: AccessDenied (status 403)"),
		Entry("a token of another issuer", func() credentials.Material {
			m := identity(credentials.ProviderAWS)
			m.WorkloadIdentity.Token += "x"
			return m
		}, ecrHost, "sts:AssumeRoleWithWebIdentity: InvalidIdentityToken (status 400)"),
		Entry("another audience of Google", func() credentials.Material {
			m := identity(credentials.ProviderGoogle)
			m.WorkloadIdentity.Config = strings.Replace(m.WorkloadIdentity.Config, "providers/gardener", "providers/other", 1)
			return m
		}, garHost, "Google STS token exchange: invalid_grant (status 400)"),
		Entry("a service account that does not trust the identity", func() credentials.Material {
			cloud.Trust(account, "other")
			return identity(credentials.ProviderGoogle)
		}, garHost, "Google generateAccessToken: PERMISSION_DENIED (status 403)"),
		Entry("a client that does not trust the identity", func() credentials.Material {
			cloud.Trust(clientID, "other")
			return identity(credentials.ProviderAzure)
		}, acrHost, "Microsoft Entra token request: invalid_client AADSTS70021 (status 401)"),
		Entry("a registry that refuses the token", func() credentials.Material {
			cloud.Fail(cloudsim.ACRExchange, cloudsim.Failure{Status: 401, Code: "UNAUTHORIZED"})
			return identity(credentials.ProviderAzure)
		}, acrHost, "ACR token exchange: UNAUTHORIZED (status 401)"),
	)

	DescribeTable("does not hold an expired token against its owner", func(provider credentials.Provider, host string) {
		m := identity(provider)
		m.WorkloadIdentity.Token = cloud.IdentityToken(subject, -time.Minute)
		err := refused(m, host)
		Expect(err).To(MatchError(ContainSubstring("the token of the workload identity has expired, and Gardener has not replaced it yet")))
		Expect(issuer.Rejected(err)).To(BeFalse())
	},
		Entry("AWS", credentials.ProviderAWS, ecrHost),
		Entry("Azure", credentials.ProviderAzure, acrHost),
		Entry("Google", credentials.ProviderGoogle, garHost),
	)

	forms := map[string]struct {
		material   func() credentials.Material
		host       string
		operations []string
	}{
		"access key":         {func() credentials.Material { return keys }, ecrHost, []string{cloudsim.GetToken}},
		"access key, role":   {func() credentials.Material { cloud.Trust(roleARN, keyID); return withRole }, ecrHost, []string{cloudsim.AssumeRole, cloudsim.GetToken}},
		"public gallery":     {func() credentials.Material { return keys }, "public.ecr.aws", []string{cloudsim.GetPublicToken}},
		"identity of AWS":    {func() credentials.Material { cloud.Trust(roleARN, subject); return identity(credentials.ProviderAWS) }, ecrHost, []string{cloudsim.AssumeRoleWithIdentity, cloudsim.GetToken}},
		"identity of Google": {func() credentials.Material { return identity(credentials.ProviderGoogle) }, garHost, []string{cloudsim.GoogleExchange, cloudsim.GoogleImpersonate}},
		"identity of Azure":  {func() credentials.Material { return identity(credentials.ProviderAzure) }, acrHost, []string{cloudsim.EntraToken, cloudsim.ACRExchange}},
	}
	temporary := map[string]cloudsim.Failure{
		"an error of the server":      {Status: 503, Code: "ServiceUnavailable"},
		"throttling":                  {Status: 429, Code: "TooManyRequests"},
		"a page of a proxy":           {Status: 403},
		"a proxy that asks to log in": {Status: 407},
		"a redirect":                  {Status: 307, Redirect: "https://elsewhere.example.com/", Code: "Moved"},
	}
	for form, f := range forms {
		for _, operation := range f.operations {
			It("does not take a failure of "+operation+" for a rejection: "+form, func() {
				for name, failure := range temporary {
					cloud.Fail(operation, failure)
					err := refused(f.material(), f.host)
					Expect(issuer.Rejected(err)).To(BeFalse(), name)
				}
				cloud.Fail(operation, cloudsim.Failure{})
				_, _, err := issue(f.material(), f.host)
				Expect(err).NotTo(HaveOccurred())
				Expect(cloud.Hosts()).NotTo(HaveKey("elsewhere.example.com"), "a redirect is not followed")
			})
		}
	}

	It("does not take throttling by Amazon for a rejection", func() {
		cloud.Fail(cloudsim.GetToken, cloudsim.Failure{Status: 400, Code: "ThrottlingException"})
		Expect(issuer.Rejected(refused(keys, ecrHost))).To(BeFalse())
	})

	It("does not take a failure of Amazon to reach Gardener for a rejection", func() {
		cloud.Fail(cloudsim.AssumeRoleWithIdentity, cloudsim.Failure{Status: 400, Code: "IDPCommunicationError"})
		Expect(issuer.Rejected(refused(identity(credentials.ProviderAWS), ecrHost))).To(BeFalse())
	})

	It("reports services that do not respond", func() {
		cloud.Close()
		for _, f := range []credentials.Provider{credentials.ProviderAWS, credentials.ProviderGoogle, credentials.ProviderAzure} {
			err := refused(identity(f), map[credentials.Provider]string{
				credentials.ProviderAWS: ecrHost, credentials.ProviderGoogle: garHost, credentials.ProviderAzure: acrHost,
			}[f])
			Expect(err).To(MatchError(ContainSubstring("connection refused")))
			Expect(issuer.Rejected(err)).To(BeFalse())
		}
	})

	DescribeTable("refuses material for another registry", func(material func() credentials.Material, host string) {
		_, err := issuer.New(material(), host, client)
		Expect(err).To(HaveOccurred())
		Expect(cloud.Requests()).To(BeEmpty())
	},
		Entry("access key", func() credentials.Material { return keys }, "registry.example.com"),
		Entry("AWS", func() credentials.Material { return identity(credentials.ProviderAWS) }, acrHost),
		Entry("Azure", func() credentials.Material { return identity(credentials.ProviderAzure) }, "contoso.azurecr.io.example.com"),
		Entry("Google", func() credentials.Material { return identity(credentials.ProviderGoogle) }, ecrHost),
		Entry("static", func() credentials.Material {
			return credentials.Static(credentials.Credential{Username: "x", Password: "y"})
		}, ecrHost),
	)

	It("validates the configuration that the owner chooses", func() {
		for _, change := range [][2]string{
			{"https://sts.googleapis.com/v1/token", "https://sts.example.com/v1/token"},
			{"https://iamcredentials.googleapis.com", "https://iamcredentials.example.com"},
			{"iam.gserviceaccount.com", "iam.gserviceaccount.com/../x"},
			{`"googleapis.com"`, `"example.com"`},
			{"external_account", "authorized_user"},
			{cloudsim.GoogleAudience, "https://example.com"},
		} {
			m := identity(credentials.ProviderGoogle)
			before := m.WorkloadIdentity.Config
			m.WorkloadIdentity.Config = strings.Replace(before, change[0], change[1], 1)
			Expect(m.WorkloadIdentity.Config).NotTo(Equal(before))
			_, err := issuer.New(m, garHost, client)
			Expect(err).To(MatchError(ContainSubstring("credentialsConfig.")), change[1])
			Expect(err).NotTo(MatchError(ContainSubstring(change[1])), "values are not quoted")
		}
	})
})
