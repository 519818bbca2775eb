// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/auth/token"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	// TokenPath is the path of the token server's only resource.
	TokenPath = "/token"

	tokenIssuer   = "upstream token server"
	tokenKeyID    = "upstream"
	tokenLifetime = 5 * time.Minute
)

// tokenServer hands out bearer tokens for the private registry, to those who know a password.
type tokenServer struct {
	service string
	key     *ecdsa.PrivateKey
	signer  jose.Signer
	users   *accounts
}

type user struct {
	Account
	actions []string
}

func newTokenServer(o Options, users *accounts) (*tokenServer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the token server's key: %w", err)
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: tokenKeyID}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("making the token server's signer: %w", err)
	}
	return &tokenServer{
		service: o.Private.Host,
		key:     key,
		signer:  signer,
		users:   users,
	}, nil
}

// publicKey is what the registry checks tokens with.
func (s *tokenServer) publicKey() jose.JSONWebKey {
	return jose.JSONWebKey{Key: s.key.Public(), KeyID: tokenKeyID, Algorithm: string(jose.ES256), Use: "sig"}
}

// ServeHTTP answers GET /token?service=S&scope=repository:NAME:ACTIONS. Clients that try OAuth's POST first
// take the answer "method not allowed" for a hint to use GET.
func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != TokenPath {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	}
	u, ok := s.authenticate(r)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Basic realm="upstream"`)
		http.Error(w, "incorrect user name or password", http.StatusUnauthorized)
		return
	}

	signed, err := s.sign(u, r.URL.Query()["scope"])
	if err != nil {
		http.Error(w, "the token could not be signed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// A client that hung up has no use for an answer.
	_ = json.NewEncoder(w).Encode(map[string]any{
		"token":      signed,
		"expires_in": int(tokenLifetime.Seconds()),
	})
}

func (s *tokenServer) authenticate(r *http.Request) (user, bool) {
	name, password, ok := r.BasicAuth()
	if !ok {
		return user{}, false
	}
	return s.users.authenticate(name, password)
}

// checked takes the tokens of users who are known no more from the requests to a registry, which cannot know.
func (s *tokenServer) checked(registry http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		subject := s.subject(r)
		if subject != "" && !slices.ContainsFunc(s.users.all(), func(u user) bool { return u.Username == subject }) {
			r.Header.Del("Authorization")
		}
		registry.ServeHTTP(w, r)
	})
}

// sign grants the part of the scopes that the user is allowed to have.
func (s *tokenServer) sign(u user, scopes []string) (string, error) {
	now := time.Now()
	claims := token.ClaimSet{
		Issuer:     tokenIssuer,
		Subject:    u.Username,
		Audience:   token.AudienceList{s.service},
		IssuedAt:   now.Unix(),
		NotBefore:  now.Unix(),
		Expiration: now.Add(tokenLifetime).Unix(),
		JWTID:      rand.Text(),
		Access:     []*token.ResourceActions{},
	}
	for _, scope := range strings.Fields(strings.Join(scopes, " ")) {
		kind, rest, _ := strings.Cut(scope, ":")
		// The name may have a colon of its own, in a host's port.
		colon := strings.LastIndex(rest, ":")
		if kind != "repository" || colon < 0 {
			continue
		}
		granted := slices.DeleteFunc(strings.Split(rest[colon+1:], ","), func(action string) bool {
			return !slices.Contains(u.actions, action)
		})
		claims.Access = append(claims.Access, &token.ResourceActions{Type: kind, Name: rest[:colon], Actions: granted})
	}
	return jwt.Signed(s.signer).Claims(claims).Serialize()
}

// subject is the user that a request's bearer token was given to, or empty.
func (s *tokenServer) subject(r *http.Request) string {
	raw, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return ""
	}
	parsed, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return ""
	}
	var claims token.ClaimSet
	if err := parsed.Claims(s.key.Public(), &claims); err != nil {
		return ""
	}
	return claims.Subject
}
