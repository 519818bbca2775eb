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
	googleTokenURL       = "https://sts.googleapis.com/v1/token"
	googleCredentialsURL = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
	// googleUsername is the user name for which Google's registries take an access token as the password.
	googleUsername = "oauth2accesstoken"
	// googleScope is the scope of the token of a federated identity that impersonates a service account. It never leaves
	// the process.
	googleScope = "https://www.googleapis.com/auth/cloud-platform"
	// googlePullScope limits the token for the registry to pulls: its identity may have more roles.
	googlePullScope = "https://www.googleapis.com/auth/devstorage.read_only"
	// googleLifetime is the longest lifetime that needs no policy of the organization.
	googleLifetime = "3600s"
)

// google exchanges the token of a workload identity for an access token of Google Cloud.
type google struct {
	identity credentials.GoogleIdentity
	token    string
	client   *http.Client
}

// Issue implements Issuer.
func (g google) Issue(ctx context.Context) (credentials.Credential, time.Time, error) {
	scope := googlePullScope
	if g.identity.ServiceAccount != "" {
		scope = googleScope
	}
	token, expires, err := g.federate(ctx, scope)
	if err == nil && g.identity.ServiceAccount != "" {
		token, expires, err = g.impersonate(ctx, token)
	}
	if err != nil {
		return credentials.Credential{}, time.Time{}, whileTokenValid(err, g.token)
	}
	return credentials.Credential{Username: googleUsername, Password: token}, expires, nil
}

// federate exchanges the token of the workload identity for that of a federated identity (RFC 8693) with a scope.
func (g google) federate(ctx context.Context, scope string) (string, time.Time, error) {
	request := exchange{operation: "Google STS token exchange", url: googleTokenURL, form: url.Values{
		"grant_type":           {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"audience":             {g.identity.Audience},
		"scope":                {scope},
		"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		"subject_token":        {g.token},
		"subject_token_type":   {"urn:ietf:params:oauth:token-type:jwt"},
	}}
	var response struct {
		Token     string  `json:"access_token"`
		ExpiresIn seconds `json:"expires_in"`
	}
	if _, err := request.do(ctx, g.client, &response); err != nil {
		return "", time.Time{}, err
	}
	if response.Token == "" || response.ExpiresIn <= 0 {
		return "", time.Time{}, invalid(request.operation, errNoCredential)
	}
	return response.Token, response.ExpiresIn.fromNow(), nil
}

// impersonate exchanges the token of the federated identity for that of a service account.
func (g google) impersonate(ctx context.Context, token string) (string, time.Time, error) {
	request := exchange{
		operation: "Google generateAccessToken",
		url:       googleCredentialsURL + url.PathEscape(g.identity.ServiceAccount) + ":generateAccessToken",
		json:      map[string]any{"scope": []string{googlePullScope}, "lifetime": googleLifetime},
		bearer:    token,
	}
	var response struct {
		Token   string    `json:"accessToken"`
		Expires time.Time `json:"expireTime"`
	}
	serverTime, err := request.do(ctx, g.client, &response)
	if err != nil {
		return "", time.Time{}, err
	}
	if response.Token == "" {
		return "", time.Time{}, invalid(request.operation, errNoCredential)
	}
	return response.Token, localExpiry(response.Expires, serverTime), nil
}
