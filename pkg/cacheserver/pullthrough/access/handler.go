// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	cacheconfig "github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/response"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/route"
	"github.com/larder-project/larder/pkg/credentials"
)

const (
	authorization = "Authorization"
	// challenge makes containerd present the user name and the password of a pod's pull secret.
	challenge = `Basic realm="registry cache"`
	// maxAuthorization is more than the largest password of a cloud's registry takes, a few KiB.
	maxAuthorization = 16 << 10
)

// Wrap returns a handler that passes on the requests that the Gate lets through, without their credentials, and refuses
// all others. It sets the header of refusals with setHeader.
func (g *Gate) Wrap(prefix string, setHeader func(http.Header), next http.Handler) http.Handler {
	if g == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given := takeCredential(r)
		to := route.Parse(prefix, r.URL.Path)
		if r.URL.User != nil {
			to = route.Route{} // No client of a registry sends such a URL, which would reach the logs.
			r.URL.User, r.RequestURI = nil, r.URL.Path
		}
		found := g.decide(r, to, given)
		g.Observe(found.decision.String())
		if !found.decision.passes() {
			setHeader(w.Header())
			g.respondRefusal(w, r, to, found, isAccount(given.Username))
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), passKey{}, found.pass)))
	})
}

// takeCredential removes the credential from a request, so that nothing else sees it, and returns it. It returns the
// zero value if there is none of use.
func takeCredential(r *http.Request) credentials.Credential {
	defer r.Header.Del(authorization)
	if values := r.Header[authorization]; len(values) != 1 || len(values[0]) > maxAuthorization {
		return credentials.Credential{}
	}
	username, password, ok := r.BasicAuth()
	if !ok || username == "" {
		return credentials.Credential{}
	}
	return credentials.Credential{Username: username, Password: password}
}

// respondRefusal responds to a request that does not pass.
func (g *Gate) respondRefusal(w http.ResponseWriter, r *http.Request, to route.Route, found result, fromAccount bool) {
	if found.decision != challenged { // A challenge is a part of each pull, and no event.
		state := response.From(r.Context())
		state.Requested(to)
		switch found.decision {
		case denied:
			state.Note(event.Denied, event.CauseNotAllowed)
		case limited:
			state.Note(event.Denied, event.CauseTooMany)
		case missing:
			state.Note(event.NotFound, event.CauseMissing)
		case unsupported:
			state.Note(event.NotFound, event.CauseRefused)
		case unavailable:
			if r.Context().Err() != nil {
				state.Note(event.Canceled, event.CauseClientLeft) // That is not the upstream's fault.
			} else {
				state.Note(event.Failed, event.CauseUndecided)
			}
		}
	}
	_ = errcode.ServeJSON(w, g.refusal(w.Header(), to, found, fromAccount))
}

// refusal returns the error for a request that does not pass, which the events of pods show.
func (g *Gate) refusal(header http.Header, to route.Route, found result, fromAccount bool) error {
	switch found.decision {
	case challenged:
		if g.Mode == PullSecrets || g.accounts != nil {
			header.Set("WWW-Authenticate", challenge)
		}
		return errcode.ErrorCodeUnauthorized
	case missing:
		if o, ok := objectOf(to); ok {
			return o.unknown()
		}
	case unsupported:
		return errcode.ErrorCodeNameUnknown.WithMessage("not part of the API of a cache")
	case limited:
		if after := found.retryAfter(); after > 0 {
			header.Set("Retry-After", strconv.FormatInt(int64((after+time.Second-1)/time.Second), 10))
		}
		message := "the upstream registry limits the rate of requests, so this registry cache cannot ask it whether this credential may pull"
		switch guesses := (guessesError{}); {
		case !errors.As(found.cause, &guesses):
		case guesses.known:
			message = "the upstream registry refused this credential too many objects lately, or does not have them, so this registry cache does not ask it for another one; correct the names of images and the pull secrets of this client"
		default:
			message = "the upstream registry refused too many requests with unknown credentials lately, so this registry cache does not ask it whether this one may pull; correct the pull secrets that it refuses"
		}
		return errcode.ErrorCodeTooManyRequests.WithMessage(message)
	case unavailable:
		return errcode.ErrorCodeUnavailable.WithMessage("the upstream registry did not say whether this client may pull")
	}
	return errcode.ErrorCodeDenied.WithMessage(g.denial(to, fromAccount))
}

func (g *Gate) denial(to route.Route, fromAccount bool) string {
	switch {
	case to.Kind == route.Catalog:
		return "this registry cache does not list its repositories"
	case fromAccount:
		return fmt.Sprintf("user names that begin with %q are those of accounts of this registry cache: the password is wrong, the account's list does not include this repository, or the cache's own credential does not open it; mount the present Secret of the account, or add the repository to accounts[].repositories", cacheconfig.AccountPrefix)
	case g.Mode == Nodes:
		return "this registry cache serves nodes and its accounts only"
	}
	return fmt.Sprintf("this credential may not pull from the repository: the upstream registry has refused it, and this registry cache asks again within %d minutes", maxRefused/time.Minute)
}

// parseToken returns the hash of the token in a file.
func parseToken(content []byte) ([]byte, error) {
	token := bytes.TrimSpace(content)
	if len(token) < cacheconfig.MinDebugToken {
		return nil, fmt.Errorf("has no token of at least %d characters", cacheconfig.MinDebugToken)
	}
	sum := sha256.Sum256(token)
	return sum[:], nil
}

// AdmitsDebug reports whether a request may see more than health and metrics. It has the token in its header, or as the
// password of whatever user, so that people can use a browser.
func (g *Gate) AdmitsDebug(r *http.Request) bool {
	if g == nil {
		return true
	}
	if g.debugToken == nil {
		return false
	}
	given := r.Header.Get(cacheconfig.DebugTokenHeader)
	if given == "" {
		_, given, _ = r.BasicAuth()
	}
	sum := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(sum[:], g.debugToken.get()) == 1
}
