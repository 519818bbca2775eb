// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// TokenPath is the path of the token server.
	TokenPath = "/token"
	// TokenPrefix is the prefix of all tokens, by which tests find them in logs.
	TokenPrefix = "simulated-token-"
)

// tokenServer issues opaque tokens and validates them.
type tokenServer struct {
	accounts func() []Account
	lifetime time.Duration
	public   bool
	// anonymous is the account of anonymous clients. Refuses means that a token without a permission is refused.
	anonymous Account
	refuses   bool

	mu     sync.Mutex
	issued map[string]grant
}

// grant is the meaning of a token.
type grant struct {
	username string // empty for an anonymous client
	scopes   []scope
	expiry   time.Time
}

// scope is a set of actions on a repository. The zero value needs no permission.
type scope struct {
	name    string
	actions []string
}

// String returns the scope in the form of challenges.
func (s scope) String() string {
	if s.name == "" {
		return ""
	}
	return "repository:" + s.name + ":" + strings.Join(s.actions, ",")
}

// parseScopes parses the scopes of a request for a token. Scopes other than those of repositories are ignored.
func parseScopes(values []string) []scope {
	var scopes []scope
	for _, value := range strings.Fields(strings.Join(values, " ")) {
		kind, rest, _ := strings.Cut(value, ":")
		// The name may contain a colon, before the port of a host.
		colon := strings.LastIndexByte(rest, ':')
		if kind == "repository" && colon >= 0 {
			scopes = append(scopes, scope{name: rest[:colon], actions: strings.Split(rest[colon+1:], ",")})
		}
	}
	return scopes
}

func (t *tokenServer) revoke() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.issued = nil
}

// user returns the user name of the account that a valid token was issued to.
func (t *tokenServer) user(token string) string {
	for _, account := range t.accounts() {
		if token != "" && token == account.RegistryToken {
			return account.Username
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.issued[token].username
}

// permits reports whether a token is valid for a scope. Tokens of accounts that no longer exist are not.
func (t *tokenServer) permits(token string, wanted scope) bool {
	accounts := t.accounts()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, account := range accounts {
		if token != "" && token == account.RegistryToken {
			return wanted.name == "" || !slices.ContainsFunc(wanted.actions, func(action string) bool {
				return !slices.Contains(account.actionsOn(wanted.name), action)
			})
		}
	}
	granted, ok := t.issued[token]
	if !ok || time.Now().After(granted.expiry) {
		return false
	}
	if granted.username != "" && !slices.ContainsFunc(accounts, func(a Account) bool { return a.Username == granted.username }) {
		return false
	}
	return wanted.name == "" || slices.ContainsFunc(granted.scopes, func(s scope) bool {
		return s.name == wanted.name && !slices.ContainsFunc(wanted.actions, func(action string) bool {
			return !slices.Contains(s.actions, action)
		})
	})
}

// refresh returns the account with the refresh token of a request as OAuth 2 specifies it.
func refresh(accounts []Account, r *http.Request) (Account, bool) {
	if r.PostFormValue("grant_type") != "refresh_token" || r.PostFormValue("client_id") == "" {
		return Account{}, false
	}
	for _, account := range accounts {
		if account.IdentityToken != "" && account.IdentityToken == r.PostFormValue("refresh_token") {
			return account, true
		}
	}
	return Account{}, false
}

// ServeHTTP issues a token for the requested scopes, as far as the account has permission. Unless an account has an
// identity token, it rejects OAuth's POST, after which clients fall back to GET.
func (t *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	accounts := t.accounts()
	if r.Method == http.MethodPost && slices.ContainsFunc(accounts, func(a Account) bool { return a.IdentityToken != "" }) {
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		account, known := refresh(accounts, r)
		if !known {
			fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "wrong refresh token")
			return
		}
		t.issue(w, account, []string{r.PostFormValue("scope")})
		return
	}
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		fail(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "use GET")
		return
	}
	account, known := authenticate(accounts, r)
	if anonymous := r.Header.Get("Authorization") == ""; !known && (!t.public || !anonymous) {
		w.Header().Set("WWW-Authenticate", basicChallenge)
		fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "wrong user name or password")
		return
	}
	if !known {
		account = t.anonymous
	}
	t.issue(w, account, r.URL.Query()["scope"])
}

// issue issues a token for an account.
func (t *tokenServer) issue(w http.ResponseWriter, account Account, requested []string) {
	scopes := parseScopes(requested)
	if t.refuses && slices.ContainsFunc(scopes, func(s scope) bool { return len(account.actionsOn(s.name)) == 0 }) {
		status := http.StatusForbidden
		if account.Username == "" {
			status = http.StatusUnauthorized
		}
		fail(w, status, "DENIED", "requested access to the resource is denied")
		return
	}
	for i := range scopes {
		scopes[i].actions = slices.DeleteFunc(scopes[i].actions, func(action string) bool {
			return !slices.Contains(account.actionsOn(scopes[i].name), action)
		})
	}
	token := TokenPrefix + rand.Text()
	now := time.Now()
	t.mu.Lock()
	if t.issued == nil {
		t.issued = map[string]grant{}
	}
	t.issued[token] = grant{username: account.Username, scopes: scopes, expiry: now.Add(t.lifetime)}
	t.mu.Unlock()

	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"token":        token,
		"access_token": token,
		"expires_in":   int(t.lifetime.Seconds()),
		"issued_at":    now.UTC().Format(time.RFC3339),
	})
}
