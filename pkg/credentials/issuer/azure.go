// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package issuer

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/larder-project/larder/pkg/credentials"
)

const (
	// azureScope is the audience of Azure Container Registry in all clouds of Azure. A token for it is of no use for
	// other services.
	azureScope = "https://containerregistry.azure.net/.default"
	// azureLifetime is the lifetime of a refresh token that does not say when it expires: less than the three hours that
	// are documented.
	azureLifetime = time.Hour
)

// azure exchanges the token of a workload identity for a refresh token of Azure Container Registry.
type azure struct {
	identity credentials.AzureIdentity
	token    string
	registry string
	entra    string
	client   *http.Client
}

// Issue implements Issuer.
func (a azure) Issue(ctx context.Context) (credentials.Credential, time.Time, error) {
	token, err := a.federate(ctx)
	if err != nil {
		return credentials.Credential{}, time.Time{}, whileTokenValid(err, a.token)
	}
	token, expires, err := a.exchange(ctx, token)
	if err != nil {
		return credentials.Credential{}, time.Time{}, err
	}
	return credentials.Credential{Username: credentials.AzureUsername, Password: token}, expires, nil
}

// federate exchanges the token of the workload identity for a token of Microsoft Entra. The token takes the place of a
// client secret (RFC 7523).
func (a azure) federate(ctx context.Context) (string, error) {
	request := exchange{
		operation: "Microsoft Entra token request",
		url:       "https://" + a.entra + "/" + url.PathEscape(a.identity.TenantID) + "/oauth2/v2.0/token",
		form: url.Values{
			"grant_type":            {"client_credentials"},
			"client_id":             {a.identity.ClientID},
			"scope":                 {azureScope},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
			"client_assertion":      {a.token},
		},
	}
	var response struct {
		Token string `json:"access_token"`
	}
	if _, err := request.do(ctx, a.client, &response); err != nil {
		return "", err
	}
	if response.Token == "" {
		return "", invalid(request.operation, errNoCredential)
	}
	return response.Token, nil
}

// exchange exchanges a token of Microsoft Entra for a refresh token of the registry.
func (a azure) exchange(ctx context.Context, token string) (string, time.Time, error) {
	request := exchange{operation: "ACR token exchange", url: "https://" + a.registry + "/oauth2/exchange", form: url.Values{
		"grant_type":   {"access_token"},
		"service":      {a.registry},
		"tenant":       {a.identity.TenantID},
		"access_token": {token},
	}}
	var response struct {
		Token string `json:"refresh_token"`
	}
	serverTime, err := request.do(ctx, a.client, &response)
	if err != nil {
		return "", time.Time{}, err
	}
	if response.Token == "" {
		return "", time.Time{}, invalid(request.operation, errNoCredential)
	}
	expires, ok := credentials.TokenExpiry(response.Token)
	if !ok {
		return response.Token, time.Now().Add(azureLifetime), nil
	}
	return response.Token, localExpiry(expires, serverTime), nil
}
