// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cloudsim

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The operations of Google Cloud, and the audience of its only provider of workload identities.
const (
	GoogleExchange    = "google:exchange"
	GoogleImpersonate = "google:generateAccessToken"
	GoogleAudience    = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/gardener"
)

func (c *Cloud) serveGoogle(w http.ResponseWriter, r *http.Request, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Host == "sts.googleapis.com" && r.URL.Path == "/v1/token":
		c.googleExchange(w, body)
	case r.Host == "iamcredentials.googleapis.com":
		c.googleImpersonate(w, r, body)
	default:
		http.NotFound(w, r)
	}
}

// The scopes of tokens. One with the scope for the whole cloud must not get to a registry.
const (
	googleCloudScope = "https://www.googleapis.com/auth/cloud-platform"
	googlePullScope  = "https://www.googleapis.com/auth/devstorage.read_only"
)

// googleExchange exchanges the token of a workload identity (RFC 8693). A token with the scope for pulls works for
// registries if the subject is trusted for the provider itself, one with the scope for the cloud for impersonation.
func (c *Cloud) googleExchange(w http.ResponseWriter, body []byte) {
	form, err := url.ParseQuery(string(body))
	reject := func(failure Failure) {
		message, _ := json.Marshal(map[string]string{"error": failure.Code, "error_description": quote(form.Get("subject_token"))})
		fail(w, failure, string(message))
	}
	if failure, ok := c.begin(GoogleExchange); ok {
		reject(failure)
		return
	}
	subject, reason := c.subject(form.Get("subject_token"))
	switch {
	case err != nil, form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange",
		form.Get("requested_token_type") != "urn:ietf:params:oauth:token-type:access_token",
		form.Get("subject_token_type") != "urn:ietf:params:oauth:token-type:jwt", form.Get("scope") != googleCloudScope && form.Get("scope") != googlePullScope:
		reject(Failure{Status: http.StatusBadRequest, Code: "invalid_request"})
		return
	case reason != "", form.Get("audience") != GoogleAudience:
		reject(Failure{Status: http.StatusBadRequest, Code: "invalid_grant"})
		return
	}
	token := "ya29.federated-" + rand.Text()
	c.mu.Lock()
	if form.Get("scope") == googleCloudScope {
		c.federal[token] = subject
	}
	c.mu.Unlock()
	if form.Get("scope") == googlePullScope && c.trusts(GoogleAudience, subject) {
		c.issue("oauth2accesstoken", token)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"access_token": token, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer",
		"expires_in": c.options.Lifetime.Seconds(),
	})
}

func (c *Cloud) googleImpersonate(w http.ResponseWriter, r *http.Request, body []byte) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	reject := func(failure Failure) {
		message, _ := json.Marshal(map[string]any{"error": map[string]any{"code": failure.Status, "message": quote(token), "status": failure.Code}})
		fail(w, failure, string(message))
	}
	if failure, ok := c.begin(GoogleImpersonate); ok {
		reject(failure)
		return
	}
	c.mu.Lock()
	subject := c.federal[token]
	c.mu.Unlock()
	account := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/v1/projects/-/serviceAccounts/"), ":generateAccessToken")
	var request struct {
		Scope    []string `json:"scope"`
		Lifetime string   `json:"lifetime"`
	}
	switch {
	case subject == "":
		reject(Failure{Status: http.StatusUnauthorized, Code: "UNAUTHENTICATED"})
		return
	case json.Unmarshal(body, &request) != nil, !slices.Equal(request.Scope, []string{googlePullScope}):
		reject(Failure{Status: http.StatusBadRequest, Code: "INVALID_ARGUMENT"})
		return
	case !c.trusts(account, subject):
		reject(Failure{Status: http.StatusForbidden, Code: "PERMISSION_DENIED"})
		return
	}
	impersonated := "ya29.account-" + rand.Text()
	expires := c.issue("oauth2accesstoken", impersonated)
	_ = json.NewEncoder(w).Encode(map[string]any{"accessToken": impersonated, "expireTime": expires.UTC().Format(time.RFC3339Nano)})
}
