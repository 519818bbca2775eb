// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cloudsim

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Audience is the audience of the tokens of workload identities.
const Audience = "cloud.example.com"

// claims are the claims of a JSON web token.
type claims struct {
	Subject  string `json:"sub,omitempty"`
	Audience string `json:"aud,omitempty"`
	Expires  int64  `json:"exp"`
	ID       string `json:"jti"`
}

// IdentityToken issues the token of a workload identity, as Gardener does.
func (c *Cloud) IdentityToken(subject string, lifetime time.Duration) string {
	return c.sign(claims{Subject: subject, Audience: Audience, Expires: c.now().Add(lifetime).Unix(), ID: rand.Text()})
}

func (c *Cloud) sign(content claims) string {
	payload, err := json.Marshal(content)
	if err != nil {
		panic(err) // All fields are strings and numbers.
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(payload)
	return signed + "." + encode(c.signature(signed))
}

func (c *Cloud) signature(signed string) []byte {
	mac := hmac.New(sha256.New, c.secret)
	mac.Write([]byte(signed))
	return mac.Sum(nil)
}

// subject returns the subject of the valid token of a workload identity. The reason for an invalid one is "expired" or
// "invalid".
func (c *Cloud) subject(token string) (subject, reason string) {
	cut := strings.LastIndexByte(token, '.')
	if cut < 0 {
		return "", "invalid"
	}
	signature, err := base64.RawURLEncoding.DecodeString(token[cut+1:])
	if err != nil || !hmac.Equal(signature, c.signature(token[:cut])) {
		return "", "invalid"
	}
	_, payload, _ := strings.Cut(token[:cut], ".")
	data, err := base64.RawURLEncoding.DecodeString(payload)
	var content claims
	if err != nil || json.Unmarshal(data, &content) != nil || content.Audience != Audience {
		return "", "invalid"
	}
	if c.now().Unix() >= content.Expires {
		return "", "expired"
	}
	return content.Subject, ""
}

// Trust allows a subject to assume a role, to act as a service account of Google or as a client of Entra. A subject is
// that of a workload identity, or the ID of an access key.
func (c *Cloud) Trust(principal, subject string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roles[principal] = subject
}

func (c *Cloud) trusts(principal, subject string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return subject != "" && c.roles[principal] == subject
}

// quote returns a message with a secret of the request.
func quote(secret string) string {
	return fmt.Sprintf("the request contains %s, which is not valid", secret)
}
