// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// tokens is the token server of a registry and the memory of what it issued.
type tokens struct {
	lifetime time.Duration
	public   bool

	mu                 sync.Mutex
	username, password string
	issued             map[string]grant
}

type grant struct {
	scopes []string
	until  time.Time
}

// matches tells whether a request carries the accepted basic credential.
func (t *tokens) matches(r *http.Request) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	username, password, ok := r.BasicAuth()
	return ok && username == t.username && password == t.password
}

func (t *tokens) revoke() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.issued = nil
}

func (t *tokens) replace(username, password string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.username, t.password = username, password
	t.issued = nil
}

// valid tells whether a token was issued for a scope and still holds.
func (t *tokens) valid(token, scope string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	granted, ok := t.issued[token]
	if !ok || time.Now().After(granted.until) {
		return false
	}
	for _, s := range granted.scopes {
		if s == scope {
			return true
		}
	}
	return scope == ""
}

// serve issues a token for the requested scopes, if the credential is right.
func (t *tokens) serve(w http.ResponseWriter, r *http.Request) {
	if anonymous := r.Header.Get("Authorization") == ""; !t.matches(r) && (!t.public || !anonymous) {
		w.Header().Set("WWW-Authenticate", `Basic realm="upstreamsim"`)
		fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "wrong user name or password")
		return
	}
	token := rand.Text()
	now := time.Now()
	t.mu.Lock()
	if t.issued == nil {
		t.issued = map[string]grant{}
	}
	t.issued[token] = grant{scopes: r.URL.Query()["scope"], until: now.Add(t.lifetime)}
	t.mu.Unlock()

	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"token":        token,
		"access_token": token,
		"expires_in":   int(t.lifetime.Seconds()),
		"issued_at":    now.UTC().Format(time.RFC3339),
	})
}
