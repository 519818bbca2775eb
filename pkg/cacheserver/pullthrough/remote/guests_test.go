// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/credentials"
)

// quiet observes nothing.
type quiet struct{}

func (quiet) Request(string, int, time.Duration) {}
func (quiet) Health(bool)                        {}
func (quiet) Budget(string, int64, int64)        {}
func (quiet) BudgetExpired(string)               {}

// registryOf returns a client of a registry with a handler, and with a clock.
func registryOf(t *testing.T, now func() time.Time, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c, err := New(Options{URL: server.URL, Observer: quiet{}, Timeouts: DefaultTimeouts, Now: now})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	t.Cleanup(c.Close)
	return c
}

var (
	content = []byte("content")
	wanted  = digest.FromBytes(content)
	guest   = credentials.Credential{Username: "alice", Password: "secret"}
)

func TestOnlyTheResponseOfARegistryIsAProof(t *testing.T) {
	const ociManifest = "application/vnd.oci.image.manifest.v1+json"
	other := digest.FromString("other").String()
	byTag, byDigest, blob := manifests+"v1", manifests+wanted.String(), blobs+wanted.String()
	for name, test := range map[string]struct {
		path, mediaType, digest, body string
		proven                        bool
	}{
		"manifest with digest":                     {byTag, "", other, "x", true},
		"manifest with type":                       {byTag, ociManifest + "; charset=utf-8", "", "x", true},
		"manifest of schema 1":                     {byTag, "application/vnd.docker.distribution.manifest.v1+prettyjws", "", "x", true},
		"manifest by digest":                       {byDigest, "", wanted.String(), "x", true},
		"manifest by digest, mislabelled":          {byDigest, ociManifest, other, "x", true},
		"manifest by digest, another":              {byDigest, "application/json", other, "x", false},
		"page in place of a manifest":              {byTag, "text/html; charset=utf-8", "", "<html>", false},
		"page with a digest":                       {byTag, "text/html", other, "<html>", false},
		"message in place of a manifest":           {byTag, "application/json", "", "{}", false},
		"text in place of a manifest":              {byTag, "text/plain", "", "OK", false},
		"nothing in place of a manifest":           {byTag, "", "", "", false},
		"invalid digest in place of a manifest":    {byTag, "", "latest", "", false},
		"blob with digest":                         {blob, "", wanted.String(), "x", true},
		"blob of storage":                          {blob, "binary/octet-stream", "", "content", true},
		"blob of storage without a type":           {blob, "-", "", "content", true},
		"blob of a type":                           {blob, "application/octet-stream", "", "", true},
		"empty blob with digest":                   {blob, "", wanted.String(), "", true},
		"page in place of a blob":                  {blob, "text/html", "", "<html>", false},
		"page in place of a blob, with digest":     {blob, "text/html", wanted.String(), "<html>", false},
		"message in place of a blob":               {blob, "application/json", "", "{}", false},
		"text in place of a blob":                  {blob, "text/plain", "", "OK", false},
		"document in place of a blob":              {blob, "application/xhtml+xml", "", "<html/>", false},
		"another blob in place of a blob":          {blob, "application/json", other, "{}", false},
		"nothing in place of a blob":               {blob, "-", "", "", false},
		"tags":                                     {tagList, "application/json", "", `{"name":"team/app","tags":["v1"]}`, true},
		"no tags":                                  {tagList, "application/json", "", `{"name":"team/app","tags":null}`, true},
		"page in place of tags":                    {tagList, "text/html", "", "<html>", false},
		"message in place of tags":                 {tagList, "application/json", "", `{"status":"maintenance"}`, false},
		"page in place of tags with their type":    {tagList, "application/json", "", "<html>", false},
		"nothing in place of tags":                 {tagList, "application/json", "", "", false},
		"list of something else in place of tags":  {tagList, "application/json", "", `["v1"]`, false},
		"truncated tags":                           {tagList, "application/json", "", `{"name":"team/app","tags":["v1"`, false},
		"manifest type in place of tags":           {tagList, ociManifest, other, "{}", false},
		"manifest type in place of a blob's bytes": {blob, ociManifest, "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			c := registryOf(t, time.Now, func(w http.ResponseWriter, _ *http.Request) {
				switch test.mediaType {
				case "":
					w.Header().Set("Content-Type", "application/x-unknown")
				case "-":
					w.Header()["Content-Type"] = nil
				default:
					w.Header().Set("Content-Type", test.mediaType)
				}
				if test.digest != "" {
					w.Header().Set("Docker-Content-Digest", test.digest)
				}
				_, _ = w.Write([]byte(test.body))
			})
			for _, credential := range []credentials.Credential{{}, guest} {
				_, err := c.Authorize(context.Background(), "team/app", test.path, credential, time.Minute)
				if test.proven {
					g.Expect(err).NotTo(HaveOccurred())
				} else {
					g.Expect(Is(err, Invalid)).To(BeTrue(), "%v", err)
					g.Expect(IsOutage(err)).To(BeFalse())
				}
			}
		})
	}
}

func TestOnlyFaultsOfTheUpstreamAreOutages(t *testing.T) {
	responses := map[string]struct {
		respond http.HandlerFunc
		outage  bool
	}{
		"broken connection":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, true},
		"server error":         {status(http.StatusInternalServerError), true},
		"unavailable":          {status(http.StatusServiceUnavailable), true},
		"bad request":          {status(http.StatusBadRequest), false},
		"gone":                 {status(http.StatusGone), false},
		"not found":            {status(http.StatusNotFound), false},
		"rate limit":           {status(http.StatusTooManyRequests), false},
		"unauthorized":         {status(http.StatusUnauthorized), false},
		"forbidden redirect":   {redirect("ftp://storage.example.com/"), false},
		"redirect to metadata": {redirect("http://169.254.169.254/"), false},
		"endless redirects":    {redirect("/v2/team/app/manifests/v1"), false},
	}
	for name, test := range responses {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			c := registryOf(t, time.Now, test.respond)
			_, err := c.Authorize(context.Background(), "team/app", manifests+"v1", guest, time.Minute)
			g.Expect(err).To(HaveOccurred())
			g.Expect(IsOutage(err)).To(Equal(test.outage), "%v", err)
		})
	}
	t.Run("lack of memory", func(t *testing.T) {
		g := NewWithT(t)
		c := registryOf(t, time.Now, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(strings.Repeat(" ", firstReading) + `{"tags":[]}`))
		})
		g.Expect(c.memory.TryAcquire(maxReading - firstReading)).To(BeTrue())
		_, err := c.Authorize(context.Background(), "team/app", tagList, guest, time.Minute)
		g.Expect(Is(err, Unavailable)).To(BeTrue(), "%v", err)
		g.Expect(IsOutage(err)).To(BeFalse())
	})
	for _, own := range []error{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL} {
		t.Run(own.Error(), func(t *testing.T) {
			g := NewWithT(t)
			failing := roundTripper(func(*http.Request) (*http.Response, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", own)}
			})
			c, err := New(Options{URL: "https://registry.example.com", Observer: quiet{}, Timeouts: DefaultTimeouts, Transport: failing})
			g.Expect(err).NotTo(HaveOccurred())
			defer c.Close()
			_, err = c.Authorize(context.Background(), "team/app", manifests+"v1", guest, time.Minute)
			g.Expect(Is(err, Unavailable)).To(BeTrue(), "%v", err)
			g.Expect(IsOutage(err)).To(BeFalse())
		})
	}
	NewWithT(t).Expect(IsOutage(errors.New("other"))).To(BeFalse())
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func status(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
}

func TestRefusalsOfTheLoginAreKnownAsSuch(t *testing.T) {
	for name, test := range map[string]struct {
		// The challenge of the registry, and the statuses of the token service and of a request with what it asked for.
		challenge       string
		token, registry int
		credential      credentials.Credential
		reason          Reason
		login           bool
	}{
		"basic, refused":                {"Basic", 0, 401, guest, Unauthorized, true},
		"basic, without permission":     {"Basic", 0, 403, guest, Unauthorized, true},
		"basic, limited":                {"Basic", 0, 429, guest, RateLimited, true},
		"token, refused":                {"Bearer", 401, 200, guest, Unauthorized, true},
		"token, limited":                {"Bearer", 429, 200, guest, RateLimited, true},
		"token, without permission":     {"Bearer", 200, 401, guest, Unauthorized, false},
		"token, limited later":          {"Bearer", 200, 429, guest, RateLimited, false},
		"anonymous token, refused":      {"Bearer", 401, 200, credentials.Credential{}, Unauthorized, false},
		"anonymous token, limited":      {"Bearer", 429, 200, credentials.Credential{}, RateLimited, false},
		"anonymous, without permission": {"Basic", 0, 401, credentials.Credential{}, Unauthorized, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			c := registryOf(t, time.Now, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/token":
					w.WriteHeader(test.token)
					_, _ = w.Write([]byte(`{"token":"t"}`))
				case r.Header.Get("Authorization") == "":
					w.Header().Set("WWW-Authenticate", test.challenge+` realm="http://`+r.Host+`/token"`)
					w.WriteHeader(http.StatusUnauthorized)
				default:
					w.WriteHeader(test.registry)
				}
			})
			_, err := c.Authorize(context.Background(), "team/app", manifests+"v1", test.credential, time.Minute)
			g.Expect(Is(err, test.reason)).To(BeTrue(), "%v", err)
			g.Expect(IsLogin(err, test.reason)).To(Equal(test.login))
		})
	}
}

func TestRateLimitOutlivesTheSessionThatMetIt(t *testing.T) {
	for name, wasAccepted := range map[string]bool{"of a guest": true, "of a guest that was never accepted": false} {
		t.Run(name, func(t *testing.T) {
			g, now, asked, limited := NewWithT(t), time.Now(), 0, false
			c := registryOf(t, func() time.Time { return now }, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/v2/team/broken/") {
					w.WriteHeader(http.StatusBadGateway)
					return
				}
				asked++
				if limited {
					w.Header().Set("Retry-After", "600")
					w.WriteHeader(http.StatusTooManyRequests)
					return
				}
				w.Header().Set("Docker-Content-Digest", wanted.String())
			})
			authorize := func() error {
				_, err := c.Authorize(context.Background(), "team/app", manifests+"v1", guest, time.Minute)
				return err
			}
			if wasAccepted {
				g.Expect(authorize()).To(Succeed())
			}
			limited, asked = true, 0
			for range 4 {
				for range 5 {
					g.Expect(Is(authorize(), RateLimited)).To(BeTrue())
				}
				now = now.Add(2 * time.Minute) // A new session takes the place of this one.
				if wasAccepted {
					_, err := c.Authorize(context.Background(), "team/broken", manifests+"v1", guest, time.Minute)
					g.Expect(Is(err, Unavailable)).To(BeTrue())
				}
			}
			g.Expect(asked).To(Equal(1))
		})
	}
}

func TestMissingObjectIsKnownToFollowALogin(t *testing.T) {
	for name, test := range map[string]struct {
		// The challenge of the registry, and the statuses without and with authentication.
		challenge       string
		without, status int
		credential      credentials.Credential
		loggedIn        bool
	}{
		"basic":                         {"Basic", 401, 404, guest, true},
		"basic, hidden from anyone":     {"Basic", 404, 404, guest, false},
		"token":                         {"Bearer", 401, 404, guest, true},
		"token, hidden from anyone":     {"Bearer", 404, 404, guest, true},
		"anonymous token":               {"Bearer", 401, 404, credentials.Credential{}, false},
		"without any challenge":         {"", 404, 404, guest, false},
		"token, without the permission": {"Bearer", 401, 403, guest, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			c := registryOf(t, time.Now, func(w http.ResponseWriter, r *http.Request) {
				isPing, challenge := r.URL.Path == apiRoot, test.challenge+` realm="http://`+r.Host+`/token"`
				switch {
				case r.URL.Path == "/token":
					_, _ = w.Write([]byte(`{"token":"t"}`))
				case r.Header.Get("Authorization") != "":
					w.WriteHeader(test.status)
				case test.challenge != "" && (isPing || test.without == http.StatusUnauthorized):
					w.Header().Set("WWW-Authenticate", challenge)
					w.WriteHeader(http.StatusUnauthorized)
				default:
					w.WriteHeader(test.without)
				}
			})
			for range 2 {
				_, err := c.Authorize(context.Background(), "team/app", manifests+"v1", test.credential, time.Minute)
				var refusal *Error
				g.Expect(errors.As(err, &refusal)).To(BeTrue())
				g.Expect(refusal.LoggedIn).To(Equal(test.loggedIn))
			}
		})
	}
}

func TestOnlyAcceptedGuestsAreKept(t *testing.T) {
	for name, response := range map[string]http.HandlerFunc{
		"refused": status(http.StatusForbidden), "missing": status(http.StatusNotFound), "limited": status(http.StatusTooManyRequests),
		"undecided": status(http.StatusBadGateway), "a page": status(http.StatusOK),
	} {
		t.Run(name, func(t *testing.T) {
			g, now, respond := NewWithT(t), time.Now(), response
			c := registryOf(t, func() time.Time { return now }, func(w http.ResponseWriter, r *http.Request) { respond(w, r) })
			authorize := func() {
				_, _ = c.Authorize(context.Background(), "team/app", manifests+"v1", guest, time.Hour)
			}
			authorize()
			if name == "limited" {
				g.Expect(c.guests.byCredential.Keys()).To(ConsistOf(guest), "with its limit")
				now = now.Add(time.Hour)
			} else {
				g.Expect(c.guests.byCredential.Keys()).To(BeEmpty())
			}
			respond = func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Docker-Content-Digest", wanted.String()) }
			authorize()
			g.Expect(c.guests.byCredential.Keys()).To(ConsistOf(guest))
			respond = response
			authorize()
			if name == "refused" {
				g.Expect(c.guests.byCredential.Keys()).To(BeEmpty())
			} else {
				g.Expect(c.guests.byCredential.Keys()).To(ConsistOf(guest), "it may still pay, within its limits")
			}
			now = now.Add(guestIdle + time.Second)
			c.guests.expire(now)
			g.Expect(c.guests.byCredential.Keys()).To(BeEmpty())
		})
	}
}

// payers are guests with a password each.
type payers []string

func (p payers) For(_ string, tried []credentials.Credential) (credentials.Credential, bool) {
	for _, password := range p {
		c := credentials.Credential{Username: "guest", Password: password}
		if !slices.Contains(tried, c) {
			return c, true
		}
	}
	return credentials.Credential{}, false
}

func (payers) Rejected(string, credentials.Credential) {}

func TestGuestThatCannotPayLeavesThatToTheNext(t *testing.T) {
	statuses := map[string]int{
		"limited": http.StatusTooManyRequests, "gone": http.StatusNotFound, "rejected": http.StatusForbidden, "broken": http.StatusBadRequest,
		"good": http.StatusOK,
	}
	for name, test := range map[string]struct {
		payers payers
		tried  int
		status int // of the result
	}{
		"its rate limit is used up":     {payers{"limited", "good"}, 2, http.StatusOK},
		"the repository is hidden":      {payers{"gone", "good"}, 2, http.StatusOK},
		"its credential is rejected":    {payers{"rejected", "good"}, 2, http.StatusOK},
		"several cannot":                {payers{"limited", "gone", "rejected", "good"}, 4, http.StatusOK},
		"unless it can":                 {payers{"good", "limited"}, 1, http.StatusOK},
		"unless the upstream is broken": {payers{"broken", "good"}, 1, http.StatusBadRequest},
		"a limit decides least":         {payers{"gone", "rejected", "limited"}, 3, http.StatusTooManyRequests},
		"a missing object is not lost":  {payers{"rejected", "gone"}, 2, http.StatusNotFound},
		"only to a few":                 {payers{"gone", "gone 2", "gone 3", "gone 4", "good"}, maxRejected, http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			var seen []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, password, ok := r.BasicAuth()
				if !ok {
					w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				seen = append(seen, password)
				kind, _, _ := strings.Cut(password, " ")
				w.Header().Set("Retry-After", "3600")
				w.Header().Set("Content-Type", "application/octet-stream")
				w.WriteHeader(statuses[kind])
			}))
			defer server.Close()
			c, err := New(Options{URL: server.URL, Observer: quiet{}, Timeouts: DefaultTimeouts, Now: time.Now, Guests: test.payers})
			g.Expect(err).NotTo(HaveOccurred())
			defer c.Close()
			_, err = c.StatBlob(t.Context(), "team/app", wanted)
			if test.status == http.StatusOK {
				g.Expect(err).NotTo(HaveOccurred())
			} else {
				g.Expect(StatusOf(err)).To(Equal(test.status))
			}
			g.Expect(slices.Compact(seen)).To(BeEquivalentTo(test.payers[:test.tried]))
		})
	}
}
