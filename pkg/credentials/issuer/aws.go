// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package issuer

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecrpublic"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/upstream"
)

const (
	// awsSessionName names the sessions of roles in the logs of their accounts.
	awsSessionName = "registry-cache"
	// awsSessionSeconds is the shortest session of a role; it is used for one request.
	awsSessionSeconds = 900
	// awsAttempts is the number of attempts of a request. The second one corrects a wrong local clock; otherwise, the
	// [Renewer] tries again.
	awsAttempts = 2
	// awsMaxBackoff bounds the time between the attempts.
	awsMaxBackoff = 5 * time.Second
)

// amazon issues tokens for a registry of Amazon ECR. It keeps the clients, since they learn how wrong the local clock
// is.
type amazon struct {
	registry  upstream.ECR
	principal principal
	sts       *sts.Client
	private   *ecr.Client
	public    *ecrpublic.Client
}

// principal is the identity that tokens are issued for.
type principal interface {
	credentials(ctx context.Context, client *sts.Client) (aws.Credentials, error)
}

func newAWS(principal principal, host string, client *http.Client) (Issuer, error) {
	registry, ok := upstream.ParseECR(host)
	if !ok {
		return nil, errors.New("the host is not a registry of Amazon ECR")
	}
	// The loader of the SDK's configuration is not used: it reads credentials from the environment and the node.
	config := aws.Config{
		Region:        registry.Region,
		HTTPClient:    client,
		Credentials:   aws.AnonymousCredentials{},
		ConfigSources: []any{endpointSettings{registry}},
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = awsAttempts, awsMaxBackoff })
		},
	}
	return amazon{
		registry: registry, principal: principal,
		sts: sts.NewFromConfig(config), private: ecr.NewFromConfig(config), public: ecrpublic.NewFromConfig(config),
	}, nil
}

// Issue implements Issuer.
func (a amazon) Issue(ctx context.Context) (credentials.Credential, time.Time, error) {
	keys, err := a.principal.credentials(ctx, a.sts)
	if err != nil {
		return credentials.Credential{}, time.Time{}, err
	}
	operation, authorize := "ecr:GetAuthorizationToken", a.authorize
	if a.registry.Public {
		operation, authorize = "ecr-public:GetAuthorizationToken", a.authorizePublic
	}
	token, err := authorize(ctx, static(keys))
	if err != nil {
		return credentials.Credential{}, time.Time{}, awsError(operation, err)
	}
	decoded, err := base64.StdEncoding.DecodeString(token.value)
	username, password, ok := strings.Cut(string(decoded), ":")
	if err != nil || !ok || username == "" || password == "" {
		return credentials.Credential{}, time.Time{}, invalid(operation, errNoCredential)
	}
	return credentials.Credential{Username: username, Password: password}, token.expires, nil
}

// authorization is a token for a registry.
type authorization struct {
	value   string
	expires time.Time
}

// authorize gets a token for private registries: those of all accounts that the principal has access to.
func (a amazon) authorize(ctx context.Context, keys aws.CredentialsProvider) (authorization, error) {
	output, err := a.private.GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{}, func(o *ecr.Options) { o.Credentials = keys })
	if err != nil || len(output.AuthorizationData) == 0 {
		return authorization{}, err
	}
	data := output.AuthorizationData[0]
	return newAuthorization(data.AuthorizationToken, data.ExpiresAt, output.ResultMetadata), nil
}

// authorizePublic gets a token for the public gallery.
func (a amazon) authorizePublic(ctx context.Context, keys aws.CredentialsProvider) (authorization, error) {
	output, err := a.public.GetAuthorizationToken(ctx, &ecrpublic.GetAuthorizationTokenInput{}, func(o *ecrpublic.Options) { o.Credentials = keys })
	if err != nil || output.AuthorizationData == nil {
		return authorization{}, err
	}
	data := output.AuthorizationData
	return newAuthorization(data.AuthorizationToken, data.ExpiresAt, output.ResultMetadata), nil
}

func newAuthorization(value *string, expires *time.Time, metadata middleware.Metadata) authorization {
	serverTime, _ := awsmiddleware.GetServerTime(metadata)
	return authorization{value: aws.ToString(value), expires: localExpiry(aws.ToTime(expires), serverTime)}
}

func static(keys aws.Credentials) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return keys, nil })
}

// accessKey is an access key, with a role to assume if it has one.
type accessKey struct{ keys credentials.AWSKeys }

func (a accessKey) credentials(ctx context.Context, client *sts.Client) (aws.Credentials, error) {
	keys := aws.Credentials{
		AccessKeyID: a.keys.AccessKeyID, SecretAccessKey: a.keys.SecretAccessKey, SessionToken: a.keys.SessionToken, Source: "access key",
	}
	if a.keys.RoleARN == "" {
		return keys, nil
	}
	const operation = "sts:AssumeRole"
	input := &sts.AssumeRoleInput{RoleArn: &a.keys.RoleARN, RoleSessionName: new(awsSessionName), DurationSeconds: new(int32(awsSessionSeconds))}
	if a.keys.ExternalID != "" {
		input.ExternalId = &a.keys.ExternalID
	}
	output, err := client.AssumeRole(ctx, input, func(o *sts.Options) { o.Credentials = static(keys) })
	if err != nil {
		return aws.Credentials{}, awsError(operation, err)
	}
	return session(operation, output.Credentials)
}

// webIdentity is a role that the token of a workload identity allows to assume.
type webIdentity struct{ roleARN, token string }

func (w webIdentity) credentials(ctx context.Context, client *sts.Client) (aws.Credentials, error) {
	const operation = "sts:AssumeRoleWithWebIdentity"
	output, err := client.AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: &w.roleARN, RoleSessionName: new(awsSessionName), WebIdentityToken: &w.token, DurationSeconds: new(int32(awsSessionSeconds)),
	})
	if err != nil {
		return aws.Credentials{}, whileTokenValid(awsError(operation, err), w.token)
	}
	return session(operation, output.Credentials)
}

// session returns the keys of a session of a role.
func session(operation string, keys *types.Credentials) (aws.Credentials, error) {
	if keys == nil {
		return aws.Credentials{}, invalid(operation, errNoCredential)
	}
	return aws.Credentials{
		AccessKeyID: aws.ToString(keys.AccessKeyId), SecretAccessKey: aws.ToString(keys.SecretAccessKey),
		SessionToken: aws.ToString(keys.SessionToken), Source: "role",
	}, nil
}

// endpointSettings select the endpoints of the SDK's clients. The variables of the environment that name the endpoint of
// a service are the SDK's own; its configuration loader would read them.
type endpointSettings struct{ registry upstream.ECR }

// GetServiceBaseEndpoint is an interface of the SDK.
func (endpointSettings) GetServiceBaseEndpoint(_ context.Context, service string) (string, bool, error) {
	value := os.Getenv("AWS_ENDPOINT_URL_" + strings.ReplaceAll(strings.ToUpper(service), " ", "_"))
	return value, value != "", nil
}

// GetUseFIPSEndpoint is an interface of the SDK.
func (s endpointSettings) GetUseFIPSEndpoint(context.Context) (aws.FIPSEndpointState, bool, error) {
	if s.registry.FIPS {
		return aws.FIPSEndpointStateEnabled, true, nil
	}
	return aws.FIPSEndpointStateUnset, false, nil
}

// GetUseDualStackEndpoint is an interface of the SDK.
func (s endpointSettings) GetUseDualStackEndpoint(context.Context) (aws.DualStackEndpointState, bool, error) {
	if s.registry.DualStack {
		return aws.DualStackEndpointStateEnabled, true, nil
	}
	return aws.DualStackEndpointStateUnset, false, nil
}

var awsRetryables = retry.IsErrorRetryables(append([]retry.IsErrorRetryable{
	retry.RetryableErrorCode{Codes: map[string]struct{}{
		"IDPCommunicationError": {}, // Amazon cannot reach the issuer of the workload identity.
		"RequestTimeTooSkewed":  {}, // The local clock is wrong.
		"RequestExpired":        {},
	}},
}, retry.DefaultRetryables...))

// unknownError is the SDK's code for an error response without a code.
const unknownError = "UnknownError"

// awsError returns the error of an operation. Errors of the SDK contain the message of the service, which may quote the
// request.
func awsError(operation string, err error) error {
	var response *smithyhttp.ResponseError
	if !errors.As(err, &response) || response.HTTPStatusCode() == 0 {
		return unreachable(operation, err)
	}
	code := ""
	if apiError := smithy.APIError(nil); errors.As(err, &apiError) && apiError.ErrorCode() != unknownError {
		code = apiError.ErrorCode()
	}
	refusal := refused(operation, response.HTTPStatusCode(), code, response.Response.Header)
	if awsRetryables.IsErrorRetryable(err) == aws.TrueTernary {
		refusal.rejected = false
	}
	return refusal
}
