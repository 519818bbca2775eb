// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/credentials"
)

// odd is a registry with configurable oddities. It records its requests.
type odd struct {
	*httptest.Server
	// api handles requests to the API, given the token that they carry.
	api func(w http.ResponseWriter, r *http.Request, token string)
	// token handles requests for tokens.
	token http.HandlerFunc

	mu     sync.Mutex
	asked  []string
	issued int
}

func newOdd() *odd {
	o := &odd{}
	o.token = func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"token": o.next()})
	}
	o.Server = httptest.NewServer(o)
	DeferCleanup(o.Close)
	return o
}

// next returns a new token: t1, t2, and so on.
func (o *odd) next() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.issued++
	return fmt.Sprintf("t%d", o.issued)
}

// requests returns the requests since the last call.
func (o *odd) requests() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	asked := o.asked
	o.asked = nil
	return asked
}

// ServeHTTP records each request as its method, the kind of object, and the token.
func (o *odd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if _, _, ok := r.BasicAuth(); ok {
		token = "basic"
	}
	kind := "token"
	if parts := strings.Split(r.URL.Path, "/"); parts[1] == "v2" {
		kind = strings.Join(parts[min(len(parts)-1, 3):len(parts)-1], "/")
	}
	o.mu.Lock()
	o.asked = append(o.asked, strings.TrimSpace(strings.Join([]string{r.Method, kind, token}, " ")))
	o.mu.Unlock()
	if kind == "token" {
		o.token(w, r)
		return
	}
	o.api(w, r, token)
}

func (o *odd) challenge(w http.ResponseWriter, status int, challenges ...string) {
	if len(challenges) == 0 {
		challenges = []string{`Bearer realm="` + o.URL + `/token",service="s"`}
	}
	w.Header()["Www-Authenticate"] = challenges
	w.WriteHeader(status)
}

func manifestOf(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	_, _ = w.Write([]byte(`{}`))
}

var _ = Describe("An odd upstream", func() {
	var (
		o       *odd
		options remote.Options
		now     time.Time
	)

	BeforeEach(func() {
		o = newOdd()
		now = time.Now()
		secrets := &credentialsFor{}
		secrets.set(password)
		options = remote.Options{
			URL: o.URL, Observer: newObserver(), Credentials: secrets, Now: func() time.Time { return now },
			Timeouts: remote.Timeouts{Connect: time.Second, FirstByte: 5 * time.Second, Idle: 5 * time.Second},
		}
	})
	client := func() *remote.Client {
		GinkgoHelper()
		c, err := remote.New(options)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(c.Close)
		return c
	}
	fetch := func(ctx context.Context, c *remote.Client) error {
		_, err := c.FetchManifest(ctx, "app", "v1")
		return err
	}
	// accepting serves manifests for one token, and calls refuse for others.
	accepting := func(good *string, refuse func(w http.ResponseWriter, token string)) {
		o.api = func(w http.ResponseWriter, _ *http.Request, token string) {
			if token == *good {
				manifestOf(w)
				return
			}
			refuse(w, token)
		}
	}

	It("costs no request if it has no oddity", func(ctx context.Context) {
		good := "t1"
		accepting(&good, func(w http.ResponseWriter, _ string) { o.challenge(w, http.StatusUnauthorized) })
		c := client()
		Expect(fetch(ctx, c)).To(Succeed())
		Expect(fetch(ctx, c)).To(Succeed())
		good = "t2"
		Expect(fetch(ctx, c)).To(Succeed())
		Expect(o.requests()).To(Equal([]string{
			"GET manifests", "GET token basic", "GET manifests t1",
			"GET manifests t1",
			"GET manifests t1", "GET token basic", "GET manifests t2",
		}))
	})

	It("decides on the lifetime of tokens", func(ctx context.Context) {
		o.token = func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]any{"access_token": o.next(), "expires_in": 300})
		}
		o.api = func(w http.ResponseWriter, _ *http.Request, token string) {
			if token == "" {
				o.challenge(w, http.StatusUnauthorized)
				return
			}
			manifestOf(w)
		}
		c := client()
		Expect(fetch(ctx, c)).To(Succeed())
		now = now.Add(269 * time.Second)
		Expect(fetch(ctx, c)).To(Succeed())
		o.requests()
		now = now.Add(2 * time.Second)
		Expect(fetch(ctx, c)).To(Succeed())
		Expect(o.requests()).To(Equal([]string{"GET manifests", "GET token basic", "GET manifests t2"}))
	})

	DescribeTable("signals an expired token", func(ctx context.Context, status int, challenge string) {
		good := "t1"
		accepting(&good, func(w http.ResponseWriter, token string) {
			switch {
			case token == "":
				o.challenge(w, http.StatusUnauthorized)
			case challenge != "":
				o.challenge(w, status, challenge)
			default:
				w.WriteHeader(status)
			}
		})
		c := client()
		Expect(fetch(ctx, c)).To(Succeed())
		o.requests()
		good = "t2"
		Expect(fetch(ctx, c)).To(Succeed())
		Expect(o.requests()).To(Equal([]string{"GET manifests t1", "GET manifests", "GET token basic", "GET manifests t2"}))
	},
		Entry("as public.ecr.aws does", http.StatusBadRequest, ""),
		Entry("as dhi.io did", http.StatusUnauthorized, ""),
		Entry("as nvcr.io does", http.StatusUnauthorized, `Bearer realm="https://authn.example.com/token",service="registry",error="invalid_token"`),
		Entry("with 403", http.StatusForbidden, ""),
		Entry("with 404", http.StatusNotFound, ""),
		Entry("with 404 and a challenge", http.StatusNotFound, `Basic realm="x"`),
	)

	DescribeTable("gets one request with a new token after a refusal, and none for a while after the second", func(ctx context.Context, status int, reason remote.Reason) {
		o.api = func(w http.ResponseWriter, _ *http.Request, token string) {
			if token == "" {
				o.challenge(w, http.StatusUnauthorized)
				return
			}
			w.WriteHeader(status)
		}
		c := client()
		for range 3 {
			Expect(remote.Is(fetch(ctx, c), reason)).To(BeTrue())
		}
		Expect(o.requests()).To(Equal([]string{
			"GET manifests", "GET token basic", "GET manifests t1",
			"GET manifests t1",
			"GET manifests t1",
		}))
		now = now.Add(time.Minute)
		Expect(remote.Is(fetch(ctx, c), reason)).To(BeTrue())
		Expect(o.requests()).To(Equal([]string{"GET manifests t1", "GET manifests", "GET token basic", "GET manifests t2"}))
	},
		Entry("by 404", http.StatusNotFound, remote.NotFound),
		Entry("by 403", http.StatusForbidden, remote.Unauthorized),
		Entry("by 400", http.StatusBadRequest, remote.Unavailable),
	)

	It("gets one request with a new token for each refusing status, even if they alternate", func(ctx context.Context) {
		o.api = func(w http.ResponseWriter, r *http.Request, token string) {
			switch {
			case token == "":
				o.challenge(w, http.StatusUnauthorized)
			case strings.HasSuffix(r.URL.Path, "/forbidden"):
				w.WriteHeader(http.StatusForbidden)
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		}
		c := client()
		for range 3 {
			for reference, reason := range map[string]remote.Reason{"forbidden": remote.Unauthorized, "missing": remote.NotFound} {
				_, err := c.FetchManifest(ctx, "app", reference)
				Expect(remote.Is(err, reason)).To(BeTrue())
			}
		}
		asked := 0
		for _, request := range o.requests() {
			if request == "GET token basic" {
				asked++
			}
		}
		Expect(asked).To(Equal(2))
	})

	DescribeTable("hides its objects from anonymous clients", func(ctx context.Context, status int, login string) {
		o.api = func(w http.ResponseWriter, r *http.Request, token string) {
			switch {
			case r.URL.Path == "/v2/":
				o.challenge(w, http.StatusUnauthorized, strings.ReplaceAll(login, "URL", o.URL))
			case token == "":
				w.WriteHeader(status)
			default:
				manifestOf(w)
			}
		}
		c := client()
		Expect(fetch(ctx, c)).To(Succeed())
		Expect(o.requests()[:2]).To(Equal([]string{"GET manifests", "GET"}))
		_, err := c.FetchManifest(ctx, "other", "v1")
		Expect(err).NotTo(HaveOccurred())
		Expect(o.requests()).NotTo(ContainElement("GET manifests"), "the quirk is remembered")
	},
		Entry("behind 404", http.StatusNotFound, `Bearer realm="URL/token",service="s"`),
		Entry("behind 403", http.StatusForbidden, `Bearer realm="URL/token",service="s"`),
		Entry("behind 404, and takes the credential", http.StatusNotFound, `Basic realm="x"`),
	)

	DescribeTable("hides its objects from anonymous clients, and moves its token service", func(ctx context.Context, old http.HandlerFunc) {
		realm := "/old"
		o.api = func(w http.ResponseWriter, r *http.Request, token string) {
			switch {
			case r.URL.Path == "/v2/":
				o.challenge(w, http.StatusUnauthorized, `Bearer realm="`+o.URL+realm+`",service="s"`)
			case token == "":
				w.WriteHeader(http.StatusNotFound)
			default:
				manifestOf(w)
			}
		}
		issue := o.token
		o.token = func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != realm {
				old(w, r)
				return
			}
			issue(w, r)
		}
		c := client()
		Expect(fetch(ctx, c)).To(Succeed())
		realm = "/new"
		_, err := c.FetchManifest(ctx, "other", "v1")
		Expect(err).NotTo(HaveOccurred())
	},
		Entry("from an address with 404", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }),
		Entry("from an address with 403", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }),
		Entry("from an address without a response", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
	)

	It("redirects its clients to https, and hides its objects there", func(ctx context.Context) {
		options.URL = "http://registry.example.com"
		options.Transport = roundTripper(func(req *http.Request) (*http.Response, error) {
			switch {
			case req.URL.Scheme == "http":
				upgraded := *req.URL
				upgraded.Scheme = "https"
				return response(req, http.StatusMovedPermanently, http.Header{"Location": {upgraded.String()}}), nil
			case req.URL.Path == "/v2/":
				return response(req, http.StatusUnauthorized, http.Header{"Www-Authenticate": {`Basic realm="x"`}}), nil
			case req.Header.Get("Authorization") == "":
				return response(req, http.StatusNotFound, http.Header{}), nil
			}
			return response(req, http.StatusOK, http.Header{"Docker-Content-Digest": {digest.FromString("").String()}}), nil
		})
		Expect(client().Resolve(ctx, "app", "v1")).To(Equal(digest.FromString("")))
	})

	It("gets one request for a login if it has none", func(ctx context.Context) {
		o.api = func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(http.StatusNotFound) }
		c := client()
		for range 3 {
			Expect(remote.Is(fetch(ctx, c), remote.NotFound)).To(BeTrue())
		}
		Expect(o.requests()).To(Equal([]string{"GET manifests", "GET", "GET manifests", "GET manifests"}))
	})

	It("does not make an object missing if it rejects the credential", func(ctx context.Context) {
		o.api = func(w http.ResponseWriter, r *http.Request, _ string) {
			if r.URL.Path == "/v2/" {
				o.challenge(w, http.StatusUnauthorized)
				return
			}
			w.WriteHeader(http.StatusNotFound)
		}
		o.token = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }
		err := fetch(ctx, client())
		Expect(remote.Is(err, remote.Unauthorized)).To(BeTrue())
		host := strings.TrimPrefix(o.URL, "http://")
		Expect(err).To(MatchError("upstream " + host + ": token service " + host + ": status 401 for the credential"))
	})

	DescribeTable("sends a challenge", func(ctx context.Context, carried string, challenges ...string) {
		for i := range challenges {
			challenges[i] = strings.ReplaceAll(challenges[i], "URL", o.URL)
		}
		o.api = func(w http.ResponseWriter, _ *http.Request, token string) {
			if token != carried {
				o.challenge(w, http.StatusUnauthorized, challenges...)
				return
			}
			manifestOf(w)
		}
		Expect(fetch(ctx, client())).To(Succeed())
	},
		Entry("after Negotiate", "basic", "Negotiate", `Basic realm="x"`),
		Entry("after Negotiate in the same header", "basic", `Negotiate, Basic realm="x"`),
		Entry("after Basic", "t1", `Basic realm="x"`, `Bearer realm="URL/token",service="s"`),
		Entry("after Basic in the same header", "t1", `Basic realm="x", Bearer realm="URL/token",service="s"`),
		Entry("in lower case, without quotes or service", "t1", `bearer realm=URL/token`),
		Entry("without a host", "t1", `Bearer realm="/token"`),
		Entry("with another realm on a foreign domain", "t1", `Bearer realm="https://auth.example.com/token"`, `Bearer realm="URL/token"`),
		Entry("with only a realm on a foreign domain, and Basic", "basic", `Bearer realm="https://auth.example.com/token", Basic realm="x"`),
	)

	It("may issue tokens by POST only", func(ctx context.Context) {
		good := "t1"
		accepting(&good, func(w http.ResponseWriter, _ string) { o.challenge(w, http.StatusUnauthorized) })
		issue := o.token
		o.token = func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			Expect(r.ParseForm()).To(Succeed())
			Expect(r.PostForm.Get("password")).To(Equal(password))
			Expect(r.PostForm.Get("scope")).To(Equal("repository:app:pull"))
			issue(w, r)
		}
		Expect(fetch(ctx, client())).To(Succeed())
	})

	It("does not get the password to the target of a redirect of its token service", func(ctx context.Context) {
		good := "t1"
		accepting(&good, func(w http.ResponseWriter, _ string) { o.challenge(w, http.StatusUnauthorized) })
		other := newOdd()
		other.token = func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			Expect(string(body)).NotTo(ContainSubstring(password))
			w.WriteHeader(http.StatusForbidden)
		}
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			o.token = func(w http.ResponseWriter, r *http.Request) {
				if r.Method != method {
					w.WriteHeader(http.StatusMethodNotAllowed)
					return
				}
				http.Redirect(w, r, other.URL+"/token", http.StatusTemporaryRedirect)
			}
			Expect(fetch(ctx, client())).NotTo(Succeed())
			Expect(other.requests()).NotTo(ContainElement(ContainSubstring("basic")))
		}
	})

	DescribeTable("issues no token", func(ctx context.Context, respond http.HandlerFunc, reason remote.Reason, cause string) {
		o.api = func(w http.ResponseWriter, _ *http.Request, _ string) { o.challenge(w, http.StatusUnauthorized) }
		o.token = respond
		err := fetch(ctx, client())
		Expect(remote.Is(err, reason)).To(BeTrue(), "%v", err)
		Expect(err).To(MatchError(And(ContainSubstring("token service "+strings.TrimPrefix(o.URL, "http://")), ContainSubstring(cause))))
	},
		Entry("but a web page", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
			remote.Invalid, "no token in the response"),
		Entry("but 503", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
			remote.Unavailable, "status 503"),
		Entry("but too large a response", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 200<<10)) },
			remote.Invalid, "larger than"),
		Entry("but closes the connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			remote.Unavailable, ""),
	)

	It("does not leak the credential to another host", func(ctx context.Context) {
		other := newOdd()
		o.api = func(w http.ResponseWriter, r *http.Request, token string) {
			if strings.Contains(r.URL.Path, "/private/") {
				Expect(token).To(BeEmpty(), "another host must not choose the use of the credential")
				o.challenge(w, http.StatusUnauthorized, `Basic realm="x"`)
				return
			}
			http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
		}
		other.api = func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, o.URL+"/v2/private/manifests/v1", http.StatusTemporaryRedirect)
		}
		Expect(fetch(ctx, client())).NotTo(Succeed())

		By("requesting an anonymous token from that host")
		other.api = func(w http.ResponseWriter, _ *http.Request, token string) {
			if token != "t1" {
				other.challenge(w, http.StatusUnauthorized, `Basic realm="x"`, `Bearer realm="`+other.URL+`/token",scope="repository:moved:pull"`)
				return
			}
			manifestOf(w)
		}
		other.requests()
		c := client()
		Expect(fetch(ctx, c)).To(Succeed())
		Expect(fetch(ctx, c)).To(Succeed())
		Expect(other.requests()).To(Equal([]string{"GET manifests", "GET token", "GET manifests t1", "GET manifests t1"}))

		By("attributing a refusal to that host")
		other.token = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }
		err := fetch(ctx, client())
		Expect(remote.Is(err, remote.Unavailable)).To(BeTrue())
		Expect(err).To(MatchError(ContainSubstring(strings.TrimPrefix(other.URL, "http://"))))
	})

	DescribeTable("refuses HEAD", func(ctx context.Context, times int, refuse http.HandlerFunc) {
		o.api = func(w http.ResponseWriter, r *http.Request, _ string) {
			w.Header().Set("Connection", "close") // net/http repeats a request that breaks a reused connection.
			switch {
			case strings.HasSuffix(r.URL.Path, "/missing"):
				w.WriteHeader(http.StatusNotFound)
			case r.Method == http.MethodHead:
				refuse(w, r)
			default:
				manifestOf(w)
			}
		}
		options.Credentials = nil
		c := client()
		ask := func() []string {
			Expect(c.Resolve(ctx, "app", "v1")).To(Equal(digest.FromString("{}")))
			Expect(c.StatBlob(ctx, "app", digest.FromString("{}"))).To(BeEquivalentTo(2))
			return o.requests()
		}
		for range times {
			Expect(ask()).To(Equal([]string{"HEAD manifests", "GET manifests", "HEAD blobs", "GET blobs"}))
		}
		Expect(ask()).To(Equal([]string{"GET manifests", "GET blobs"}), "the quirk is remembered")
		_, err := c.Resolve(ctx, "app", "missing")
		Expect(remote.Is(err, remote.NotFound)).To(BeTrue())
		now = now.Add(time.Hour)
		Expect(c.Resolve(ctx, "app", "v1")).To(Equal(digest.FromString("{}")))
		Expect(o.requests()).To(ContainElement("HEAD manifests"), "the quirk may be gone")
		Expect(c.Healthy()).To(BeTrue())
	},
		Entry("with 400", 1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }),
		Entry("with 403", 1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }),
		Entry("with 404", 1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }),
		Entry("with 405", 1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) }),
		Entry("with 500", 2, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }),
		Entry("with 501", 1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotImplemented) }),
		Entry("without a response", 2, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
	)

	DescribeTable("fails at HEAD at times, and still gets HEAD requests", func(ctx context.Context, breaks http.HandlerFunc) {
		var broken atomic.Bool
		o.api = func(w http.ResponseWriter, r *http.Request, _ string) {
			w.Header().Set("Connection", "close")
			if r.Method == http.MethodHead && broken.Load() {
				breaks(w, r)
				return
			}
			w.Header().Set("Docker-Content-Digest", digest.FromString("{}").String())
			manifestOf(w)
		}
		options.Credentials = nil
		c := client()
		for range 3 {
			for _, breaking := range []bool{true, false} {
				broken.Store(breaking)
				Expect(c.Resolve(ctx, "app", "v1")).To(Equal(digest.FromString("{}")))
			}
			Expect(o.requests()).To(Equal([]string{"HEAD manifests", "GET manifests", "HEAD manifests"}))
		}
	},
		Entry("with 500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }),
		Entry("without a response", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
	)

	It("gets a GET request for an object that HEAD did not find, and still gets HEAD requests", func(ctx context.Context) {
		o.api = func(w http.ResponseWriter, r *http.Request, _ string) {
			if strings.HasSuffix(r.URL.Path, "/missing") {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			manifestOf(w)
		}
		options.Credentials = nil
		c := client()
		for range 2 {
			_, err := c.Resolve(ctx, "app", "missing")
			Expect(remote.Is(err, remote.NotFound)).To(BeTrue())
		}
		Expect(o.requests()).To(Equal([]string{"HEAD manifests", "GET manifests", "HEAD manifests", "GET manifests"}))
	})

	It("may refuse HEAD requests that check a credential", func(ctx context.Context) {
		o.api = func(w http.ResponseWriter, r *http.Request, token string) {
			switch {
			case token != "basic":
				o.challenge(w, http.StatusUnauthorized, `Basic realm="x"`)
			case r.Method == http.MethodHead:
				w.WriteHeader(http.StatusMethodNotAllowed)
			default:
				manifestOf(w)
			}
		}
		c := client()
		Expect(fetch(ctx, c)).To(Succeed())
		candidates := byRepository{"app": {Username: "robot", Password: "another"}}
		Expect(c.Check(ctx, candidates, byRepository{"app": credentials.Credential{Username: "robot", Password: password}})).To(Succeed())
	})

	DescribeTable("refuses to resume", func(ctx context.Context, refuse http.HandlerFunc) {
		o.api = func(w http.ResponseWriter, r *http.Request, _ string) {
			if r.Header.Get("Range") != "" {
				refuse(w, r)
				return
			}
			_, _ = w.Write([]byte("blob"))
		}
		b, err := client().FetchBlob(ctx, "app", blob, remote.Position{Offset: 2, ETag: `"e"`})
		Expect(err).NotTo(HaveOccurred())
		defer b.Body.Close()
		Expect(b.Offset).To(BeZero())
		Expect(io.ReadAll(b.Body)).To(BeEquivalentTo("blob"))
	},
		Entry("with 416", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) }),
		Entry("with 400", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }),
		Entry("with 412", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPreconditionFailed) }),
		Entry("with 403, as for a signature without the range", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }),
		Entry("with another range", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 1-2/4")
			w.WriteHeader(http.StatusPartialContent)
		}),
		Entry("without a range", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPartialContent) }),
		Entry("with several parts", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "multipart/byteranges; boundary=x")
			w.WriteHeader(http.StatusPartialContent)
		}),
		Entry("with a range of compressed content", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Content-Range", "bytes 2-3/*")
			w.WriteHeader(http.StatusPartialContent)
		}),
	)

	DescribeTable("applies a coding", func(ctx context.Context, coding string, encode func(io.Writer) io.WriteCloser) {
		encoded := func(content string) []byte {
			var out bytes.Buffer
			w := encode(&out)
			_, _ = io.WriteString(w, content)
			_ = w.Close()
			return out.Bytes()
		}
		o.token = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", coding)
			_, _ = w.Write(encoded(`{"token":"t1"}`))
		}
		content := map[string]string{"manifests": `{"schemaVersion":2}`, "blobs": "blob", "tags": `{"tags":[]}`}
		chunked := false
		o.api = func(w http.ResponseWriter, r *http.Request, token string) {
			if token == "" {
				o.challenge(w, http.StatusUnauthorized)
				return
			}
			Expect(r.Header.Get("Accept-Encoding")).To(Equal("identity"))
			w.Header().Set("Content-Encoding", coding)
			w.Header().Set("Content-Type", "application/octet-stream")
			if chunked {
				_ = http.NewResponseController(w).Flush()
			}
			_, _ = w.Write(encoded(content[strings.Split(r.URL.Path, "/")[3]]))
		}
		c := client()
		m, err := c.FetchManifest(ctx, "app", "v1")
		Expect(err).NotTo(HaveOccurred())
		Expect(string(m.Content)).To(Equal(content["manifests"]))
		_, err = c.FetchManifest(ctx, "app", digest.FromString(content["manifests"]).String())
		Expect(err).NotTo(HaveOccurred())
		page, err := c.List(ctx, "app", "tags/list", nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(string(page.Content)).To(Equal(content["tags"]))
		Expect(c.StatBlob(ctx, "app", blob)).To(BeEquivalentTo(-1))

		read := func(d digest.Digest, size int64) (string, int64) {
			b, err := c.FetchBlob(ctx, "app", d, remote.Position{Size: size})
			Expect(err).NotTo(HaveOccurred())
			defer b.Body.Close()
			content, _ := io.ReadAll(b.Body)
			return string(content), b.Size
		}
		By("undoing it if the size decides that")
		body, size := read(blob, 4)
		Expect(body).To(Equal("blob"))
		Expect(size).To(BeEquivalentTo(-1))

		By("keeping it if the digest is that of the compressed content")
		raw := string(encoded("blob"))
		body, size = read(digest.FromString(raw), int64(len(raw)))
		Expect(body).To(Equal(raw))
		Expect(size).To(BeEquivalentTo(len(raw)))

		By("learning from the digest if the size is unknown")
		for _, chunked = range []bool{false, true} {
			for _, wanted := range []string{"blob", raw} {
				if body, _ = read(digest.FromString(wanted), 0); body != wanted {
					body, _ = read(digest.FromString(wanted), 0)
				}
				Expect(body).To(Equal(wanted))
			}
		}
	},
		Entry("gzip", "gzip", func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }),
		Entry("gzip by its old name", "X-GZIP", func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }),
		Entry("deflate", "deflate", func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }),
		Entry("deflate without a header", "deflate", func(w io.Writer) io.WriteCloser {
			out, _ := flate.NewWriter(w, flate.BestSpeed)
			return out
		}),
	)

	It("may declare the compression of a layer whose size only the manifest declares", func(ctx context.Context) {
		var layer bytes.Buffer
		w := gzip.NewWriter(&layer)
		_, _ = w.Write(make([]byte, 64<<10))
		_ = w.Close()
		o.api = func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Encoding", "gzip")
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(layer.Bytes())
		}
		c := client()
		size := int64(layer.Len())
		read := func() []byte {
			b, err := c.FetchBlob(ctx, "app", digest.FromBytes(layer.Bytes()), remote.Position{Size: size})
			Expect(err).NotTo(HaveOccurred())
			defer b.Body.Close()
			content, err := io.ReadAll(io.LimitReader(b.Body, size+1))
			Expect(err).NotTo(HaveOccurred())
			return content
		}
		Expect(read()).To(HaveLen(int(size)+1), "the client does not know the coding yet")
		for range 2 {
			Expect(read()).To(Equal(layer.Bytes()))
		}
	})

	It("may declare a coding that it did not apply", func(ctx context.Context) {
		o.api = func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Encoding", "gzip, aws-chunked")
			manifestOf(w)
		}
		Expect(fetch(ctx, client())).To(Succeed())
	})

	It("cannot make the client decompress more than the limit", func(ctx context.Context) {
		var bomb bytes.Buffer
		w := gzip.NewWriter(&bomb)
		content := make([]byte, 8<<20)
		_, _ = w.Write(content)
		_ = w.Close()
		o.api = func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		}
		c := client()
		_, err := c.FetchManifest(ctx, "app", digest.FromBytes(content).String())
		Expect(err).To(MatchError(ContainSubstring("does not match its digest")))
		m, err := c.FetchManifest(ctx, "app", digest.FromBytes(bomb.Bytes()).String())
		Expect(err).NotTo(HaveOccurred())
		Expect(m.Content).To(HaveLen(bomb.Len()), "the content is not decompressed")
	})

	It("may send a wrong digest in a header", func(ctx context.Context) {
		o.api = func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Docker-Content-Digest", digest.FromString("other").String())
			manifestOf(w)
		}
		c := client()
		m, err := c.FetchManifest(ctx, "app", "v1")
		Expect(err).NotTo(HaveOccurred())
		Expect(m.Digest).To(Equal(digest.FromString("{}")))
		Expect(c.Resolve(ctx, "app", "v1")).To(BeEmpty(), "its headers are no longer trusted")
	})

	It("may send web pages and schema 1 instead of manifests", func(ctx context.Context) {
		mediaType := "text/html"
		o.api = func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Type", mediaType)
			_, _ = io.WriteString(w, "<html>")
		}
		c := client()
		Expect(fetch(ctx, c)).To(MatchError(ContainSubstring("web page")))
		_, err := c.FetchManifest(ctx, "app", blob.String())
		Expect(err).To(MatchError(ContainSubstring("web page")))
		mediaType = "application/vnd.docker.distribution.manifest.v1+prettyjws"
		_, err = c.FetchManifest(ctx, "app", blob.String())
		Expect(err).To(MatchError(ContainSubstring("schema 1")))
	})

	It("may send pages of any type, and truncated manifests, instead of manifests", func(ctx context.Context) {
		var mediaType, content, declared string
		o.api = func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Type", mediaType)
			if declared != "" {
				w.Header().Set("Docker-Content-Digest", declared)
			}
			_, _ = io.WriteString(w, content)
		}
		c := client()
		for mediaType, content = range map[string]string{
			"application/xhtml+xml": "<html/>", "application/pdf": "%PDF-1.7", "": "login",
			"application/vnd.oci.image.manifest.v1+json": `{"schemaVersion":2,`,
		} {
			_, err := c.FetchManifest(ctx, "app", "v1")
			Expect(err).To(MatchError(ContainSubstring("something other than a manifest")), mediaType)
			Expect(remote.Is(err, remote.Invalid)).To(BeTrue())
		}
		mediaType, content = "application/vnd.other", "\x00\x01"
		declared = digest.FromString(content).String()
		for _, reference := range []string{"v1", declared} {
			m, err := c.FetchManifest(ctx, "app", reference)
			Expect(err).NotTo(HaveOccurred(), "the digest proves that it is the requested manifest")
			Expect(string(m.Content)).To(Equal(content))
		}
	})

	It("is not reached at an unspecified address", func(ctx context.Context) {
		o.api = func(w http.ResponseWriter, _ *http.Request, _ string) { manifestOf(w) }
		options.URL = "http://0.0.0.0" + o.URL[strings.LastIndexByte(o.URL, ':'):]
		Expect(fetch(ctx, client())).To(MatchError(ContainSubstring("metadata service")))
		Expect(o.requests()).To(BeEmpty())
	})
})
