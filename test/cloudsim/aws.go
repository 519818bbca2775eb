// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cloudsim

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// The operations of Amazon Web Services.
const (
	AssumeRole             = "AssumeRole"
	AssumeRoleWithIdentity = "AssumeRoleWithWebIdentity"
	GetToken               = "ecr:GetAuthorizationToken"
	GetPublicToken         = "ecr-public:GetAuthorizationToken"
)

// maxSkew is how much the time of a signature may differ from the clock of the service.
const maxSkew = 5 * time.Minute

// ecrTargets are the operations of the registry APIs by the header X-Amz-Target.
var ecrTargets = map[string]string{
	"AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken": GetToken,
	"SpencerFrontendService.GetAuthorizationToken":               GetPublicToken,
}

// key is an access key.
type key struct {
	secret, session string
	// denied means that the key is valid but has no permissions.
	denied bool
}

// AddKey adds an access key.
func (c *Cloud) AddKey(id, secret, session string) {
	c.setKey(id, key{secret: secret, session: session})
}

// DenyKey takes all permissions from an access key.
func (c *Cloud) DenyKey(id, secret string) { c.setKey(id, key{secret: secret, denied: true}) }

func (c *Cloud) setKey(id string, k key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys[id] = k
}

// RequireExternalID makes a role require an external ID of the access keys that assume it.
func (c *Cloud) RequireExternalID(role, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.externalIDs[role] = id
}

// acceptsExternalID reports whether a role accepts the external ID of a request.
func (c *Cloud) acceptsExternalID(role, id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.externalIDs[role] == id
}

// RemoveKey removes an access key and the tokens that were issued with it stay valid, as in reality.
func (c *Cloud) RemoveKey(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.keys, id)
}

func (c *Cloud) serveAWS(w http.ResponseWriter, r *http.Request, body []byte) {
	if operation, ok := ecrTargets[r.Header.Get("X-Amz-Target")]; ok {
		c.serveECR(w, r, operation, body)
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		http.Error(w, "no form", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	operation := form.Get("Action")
	if failure, ok := c.begin(operation); ok {
		fail(w, failure, stsError(failure.Code, quote(form.Encode())))
		return
	}
	subject, code := "", ""
	switch operation {
	case AssumeRole:
		subject, _, code = c.verify(r, body, "sts")
	case AssumeRoleWithIdentity:
		if subject, code = c.subject(form.Get("WebIdentityToken")); code != "" {
			code = map[string]string{"expired": "ExpiredTokenException", "invalid": "InvalidIdentityToken"}[code]
		}
	default:
		code = "InvalidAction"
	}
	status := http.StatusForbidden
	if code == "InvalidIdentityToken" || code == "ExpiredTokenException" {
		status = http.StatusBadRequest
	}
	if role := form.Get("RoleArn"); code == "" && (!c.trusts(role, subject) || !c.acceptsExternalID(role, form.Get("ExternalId"))) {
		code = "AccessDenied"
	}
	if code != "" {
		fail(w, Failure{Status: status, Code: code}, stsError(code, quote(form.Encode())))
		return
	}
	session := key{secret: rand.Text(), session: rand.Text()}
	id := "ASIA" + rand.Text()[:16]
	c.setKey(id, session)
	_, _ = fmt.Fprintf(w, `<%[1]sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult><Credentials>`+
		`<AccessKeyId>%[2]s</AccessKeyId><SecretAccessKey>%[3]s</SecretAccessKey><SessionToken>%[4]s</SessionToken>`+
		`<Expiration>%[5]s</Expiration></Credentials></%[1]sResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></%[1]sResponse>`,
		operation, id, session.secret, session.session, c.now().Add(15*time.Minute).UTC().Format(time.RFC3339))
}

func stsError(code, message string) string {
	return fmt.Sprintf(`<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>`+
		`<Code>%s</Code><Message>%s</Message></Error><RequestId>1</RequestId></ErrorResponse>`, code, strings.ReplaceAll(message, "&", "&amp;"))
}

func (c *Cloud) serveECR(w http.ResponseWriter, r *http.Request, operation string, body []byte) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	reject := func(failure Failure) {
		message, _ := json.Marshal(map[string]string{"__type": failure.Code, "message": quote(r.Header.Get("Authorization") + r.Header.Get("X-Amz-Security-Token"))})
		fail(w, failure, string(message))
	}
	if failure, ok := c.begin(operation); ok {
		reject(failure)
		return
	}
	service := map[string]string{GetToken: "ecr", GetPublicToken: "ecr-public"}[operation]
	_, k, code := c.verify(r, body, service)
	if code == "" && k.denied {
		code = "AccessDeniedException"
	}
	if code != "" {
		// The registry APIs have other names for the errors of signatures.
		code = strings.NewReplacer("InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "InvalidSignatureException").Replace(code)
		reject(Failure{Status: http.StatusBadRequest, Code: code})
		return
	}
	password := "ecr-" + rand.Text()
	expires := c.issue("AWS", password)
	data := any(map[string]any{
		"authorizationToken": base64.StdEncoding.EncodeToString([]byte("AWS:" + password)), "expiresAt": json.Number(number(expires)),
	})
	if operation == GetToken {
		data = []any{data}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"authorizationData": data})
}

// verify verifies the signature of a request, and returns the ID and the access key that it was made with.
func (c *Cloud) verify(r *http.Request, body []byte, service string) (string, key, string) {
	fields := map[string]string{}
	for field := range strings.SplitSeq(strings.TrimPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	signedAt, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if len(scope) != 5 || scope[3] != service || err != nil {
		return "", key{}, "IncompleteSignature"
	}
	c.mu.Lock()
	k, ok := c.keys[scope[0]]
	c.mu.Unlock()
	if !ok || k.session != r.Header.Get("X-Amz-Security-Token") {
		return "", key{}, "InvalidClientTokenId"
	}
	if c.now().Sub(signedAt).Abs() > maxSkew {
		return "", key{}, "SignatureDoesNotMatch"
	}
	again := &http.Request{Method: r.Method, URL: &url.URL{Scheme: "https", Host: r.Host, Path: r.URL.Path}, Host: r.Host, ContentLength: r.ContentLength, Header: http.Header{}}
	for name, values := range r.Header {
		if slices.Contains(strings.Split(fields["SignedHeaders"], ";"), strings.ToLower(name)) {
			again.Header[name] = values
		}
	}
	hash := sha256.Sum256(body)
	credentials := aws.Credentials{AccessKeyID: scope[0], SecretAccessKey: k.secret, SessionToken: k.session}
	if v4.NewSigner().SignHTTP(context.Background(), credentials, again, hex.EncodeToString(hash[:]), service, scope[2], signedAt) != nil ||
		!strings.HasSuffix(again.Header.Get("Authorization"), "Signature="+fields["Signature"]) {
		return "", key{}, "SignatureDoesNotMatch"
	}
	return scope[0], k, ""
}
