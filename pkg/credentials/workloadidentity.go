// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
)

// maxWorkloadIdentity is the maximum length of the configuration of a workload identity, in bytes.
const maxWorkloadIdentity = 16 << 10

// AWSIdentity is what Amazon Web Services needs to know to exchange the token of a workload identity.
type AWSIdentity struct {
	// RoleARN is the role to assume.
	RoleARN string `json:"roleARN"`
}

// AzureIdentity is what Microsoft Entra needs to know to exchange the token of a workload identity.
type AzureIdentity struct {
	// ClientID is the ID of the application or managed identity.
	ClientID string `json:"clientID"`
	// TenantID is the directory of the client.
	TenantID string `json:"tenantID"`
}

// GoogleIdentity is what Google Cloud needs to know to exchange the token of a workload identity.
type GoogleIdentity struct {
	// Audience is the provider of the workload identity pool.
	Audience string
	// ServiceAccount is the e-mail address of the service account to impersonate. It is optional.
	ServiceAccount string
}

const (
	googleTokenURL         = "https://sts.googleapis.com/v1/token"
	googleSubjectTokenType = "urn:ietf:params:oauth:token-type:jwt"
	googleUniverse         = "googleapis.com"
	googleAccountType      = "external_account"
)

var (
	awsRole = regexp.MustCompile(`^arn:aws[a-z-]{0,32}:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,576}$`)

	azureID = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)

	googleAudience = regexp.MustCompile(
		`^//iam\.googleapis\.com/projects/[0-9]{1,32}/locations/global/workloadIdentityPools/[a-z0-9-]{1,64}/providers/[a-z0-9-]{1,64}$`)
	googleImpersonation = regexp.MustCompile(
		`^https://iamcredentials\.googleapis\.com/v1/projects/-/serviceAccounts/([A-Za-z0-9.@_-]{1,256}):generateAccessToken$`)
)

// IsRoleARN reports whether a text is the ARN of a role of AWS.
func IsRoleARN(text string) bool { return awsRole.MatchString(text) }

// AWS returns the configuration of an identity at Amazon Web Services. The error names the field that is wrong.
func (w WorkloadIdentity) AWS() (AWSIdentity, error) {
	var identity AWSIdentity
	if err := w.decode(&identity); err != nil {
		return AWSIdentity{}, err
	}
	if !awsRole.MatchString(identity.RoleARN) {
		return AWSIdentity{}, errors.New("roleARN must be the ARN of a role, for example arn:aws:iam::123456789012:role/puller")
	}
	return identity, nil
}

// Azure returns the configuration of an identity at Microsoft Azure. The error names the field that is wrong.
func (w WorkloadIdentity) Azure() (AzureIdentity, error) {
	var identity AzureIdentity
	if err := w.decode(&identity); err != nil {
		return AzureIdentity{}, err
	}
	for _, id := range []struct{ name, value string }{{"clientID", identity.ClientID}, {"tenantID", identity.TenantID}} {
		if !azureID.MatchString(id.value) {
			return AzureIdentity{}, fmt.Errorf("%s must be a UUID", id.name)
		}
	}
	return identity, nil
}

// Google returns the configuration of an identity at Google Cloud. The error names the field that is wrong. The owner
// chooses the URLs in the configuration, so only those of Google are accepted: a token is sent to no other server.
func (w WorkloadIdentity) Google() (GoogleIdentity, error) {
	var config struct {
		CredentialsConfig struct {
			Type             string `json:"type"`
			Universe         string `json:"universe_domain"`
			Audience         string `json:"audience"`
			SubjectTokenType string `json:"subject_token_type"`
			TokenURL         string `json:"token_url"`
			ImpersonationURL string `json:"service_account_impersonation_url"`
		} `json:"credentialsConfig"`
	}
	if err := w.decode(&config); err != nil {
		return GoogleIdentity{}, err
	}
	c := config.CredentialsConfig
	for _, constant := range []struct{ name, value, want string }{
		{"type", c.Type, googleAccountType},
		{"universe_domain", c.Universe, googleUniverse},
		{"subject_token_type", c.SubjectTokenType, googleSubjectTokenType},
		{"token_url", c.TokenURL, googleTokenURL},
	} {
		if constant.value != constant.want {
			return GoogleIdentity{}, fmt.Errorf("credentialsConfig.%s must be %q", constant.name, constant.want)
		}
	}
	if !googleAudience.MatchString(c.Audience) {
		return GoogleIdentity{}, errors.New("credentialsConfig.audience must be the resource name of a provider, " +
			"//iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER")
	}
	identity := GoogleIdentity{Audience: c.Audience}
	if c.ImpersonationURL != "" {
		parts := googleImpersonation.FindStringSubmatch(c.ImpersonationURL)
		if parts == nil {
			return GoogleIdentity{}, errors.New("credentialsConfig.service_account_impersonation_url must be " +
				"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/EMAIL:generateAccessToken")
		}
		identity.ServiceAccount = parts[1]
	}
	return identity, nil
}

// ValidateConfig returns an error that names the wrong field if the configuration does not fit the provider.
func (w WorkloadIdentity) ValidateConfig() error {
	var err error
	switch w.Provider {
	case ProviderAWS:
		_, err = w.AWS()
	case ProviderAzure:
		_, err = w.Azure()
	case ProviderGoogle:
		_, err = w.Google()
	default:
		err = errors.New("unknown provider of a workload identity")
	}
	return err
}

// decode ignores fields that the token exchange does not need, such as the subscription or the project.
func (w WorkloadIdentity) decode(into any) error {
	if len(w.Config) > maxWorkloadIdentity {
		return fmt.Errorf("the configuration is longer than %d bytes", maxWorkloadIdentity)
	}
	if err := json.Unmarshal([]byte(w.Config), into); err != nil {
		return errors.New("the configuration is not a JSON object with the fields of the provider") // The decoder quotes values.
	}
	return nil
}
