// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cloudsim

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

// The operations of Microsoft Azure, and the only directory.
const (
	EntraToken  = "entra:token"
	ACRExchange = "acr:exchange"
	AzureTenant = "11111111-1111-1111-1111-111111111111"
)

// serveEntra issues a token for a client that the token of a workload identity authenticates (RFC 7523).
func (c *Cloud) serveEntra(w http.ResponseWriter, r *http.Request, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	form, err := url.ParseQuery(string(body))
	reject := func(failure Failure, number int) {
		message, _ := json.Marshal(map[string]any{
			"error": failure.Code, "error_codes": []int{number}, "error_description": quote(form.Get("client_assertion")),
		})
		fail(w, failure, string(message))
	}
	if failure, ok := c.begin(EntraToken); ok {
		reject(failure, 90033)
		return
	}
	subject, reason := c.subject(form.Get("client_assertion"))
	switch {
	case err != nil, form.Get("grant_type") != "client_credentials", form.Get("scope") != "https://containerregistry.azure.net/.default",
		form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer":
		reject(Failure{Status: http.StatusBadRequest, Code: "invalid_request"}, 900144)
		return
	case r.URL.Path != "/"+AzureTenant+"/oauth2/v2.0/token":
		reject(Failure{Status: http.StatusBadRequest, Code: "invalid_request"}, 90002)
		return
	case reason == "expired":
		reject(Failure{Status: http.StatusUnauthorized, Code: "invalid_client"}, 700024)
		return
	case reason != "", !c.trusts(form.Get("client_id"), subject):
		reject(Failure{Status: http.StatusUnauthorized, Code: "invalid_client"}, 70021)
		return
	}
	token := "entra-" + rand.Text()
	c.mu.Lock()
	c.federal[token] = subject
	c.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{"token_type": "Bearer", "expires_in": 3599, "access_token": token})
}

// serveACR exchanges a token of Entra for a refresh token of a registry.
func (c *Cloud) serveACR(w http.ResponseWriter, r *http.Request, host string, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	form, err := url.ParseQuery(string(body))
	reject := func(failure Failure) {
		message, _ := json.Marshal(map[string]any{"errors": []any{map[string]string{"code": failure.Code, "message": quote(form.Get("access_token"))}}})
		fail(w, failure, string(message))
	}
	if failure, ok := c.begin(ACRExchange); ok {
		reject(failure)
		return
	}
	c.mu.Lock()
	subject := c.federal[form.Get("access_token")]
	c.mu.Unlock()
	if err != nil || r.URL.Path != "/oauth2/exchange" || form.Get("grant_type") != "access_token" ||
		form.Get("service") != host || form.Get("tenant") != AzureTenant || !strings.HasPrefix(form.Get("access_token"), "entra-") || subject == "" {
		reject(Failure{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED"})
		return
	}
	token := c.sign(claims{Subject: subject, Expires: c.now().Add(c.options.Lifetime).Unix(), ID: rand.Text()})
	c.issue("00000000-0000-0000-0000-000000000000", token)
	_ = json.NewEncoder(w).Encode(map[string]string{"refresh_token": token})
}
