// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

func TestUpstreamsim(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(time.Minute)
	RunSpecs(t, "Simulated upstream")
}

// Tests that rely on a wrong simulation prove nothing.
var _ = Describe("Registry", func() {
	const (
		mib  = 1 << 20
		name = "library/app"
		tag  = "v1"
	)
	var (
		registry *upstreamsim.Registry
		image    upstreamsim.Image
		client   *pull.Client
	)
	start := func(options upstreamsim.Options) {
		GinkgoHelper()
		var err error
		registry, err = upstreamsim.Start(options)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(registry.Close)
		image = upstreamsim.RandomImage(1, 2, mib)
		registry.Push(name, tag, image)
		client = pull.NewClient(registry.URL(), &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}})
		DeferCleanup(client.Close)
	}
	layer := func(ctx context.Context) error {
		_, err := client.Blob(ctx, name, image.Layers()[0].Descriptor().Digest)
		return err
	}

	It("serves images and counts requests", func(ctx context.Context) {
		start(upstreamsim.Options{})
		size, err := client.Image(ctx, name, tag)
		Expect(err).NotTo(HaveOccurred())
		Expect(size).To(Equal(image.Size()))
		counters := registry.Counters()
		Expect(counters.Bytes).To(Equal(image.Size()))
		Expect(counters.MostRequested()).To(Equal(1))
		Expect(counters.Objects).To(HaveLen(image.Objects()))
		Expect(counters.Total()).To(Equal(1 + image.Objects()))
	})

	It("keeps to its bandwidth and latency with any number of connections", func(ctx context.Context) {
		start(upstreamsim.Options{BytesPerSecond: 8 * mib, Latency: 50 * time.Millisecond})
		client.Parallel = 3
		begin := time.Now()
		_, err := client.Image(ctx, name, tag)
		Expect(err).NotTo(HaveOccurred())
		// Three consecutive requests, and 2 MiB at 8 MiB/s.
		Expect(time.Since(begin)).To(BeNumerically(">", 390*time.Millisecond))
	})

	It("requires a basic credential", func(ctx context.Context) {
		start(upstreamsim.Options{Authentication: upstreamsim.Basic, Username: "u", Password: "p"})
		Expect(pull.StatusOf(layer(ctx))).To(Equal(http.StatusUnauthorized))
		client.Authorization = "Basic dTpw"
		Expect(layer(ctx)).To(Succeed())
		registry.SetCredential("u", "other")
		Expect(pull.StatusOf(layer(ctx))).To(Equal(http.StatusUnauthorized))
	})

	token := func(ctx context.Context, scope string) string {
		GinkgoHelper()
		client.Authorization = "Basic dTpw"
		response, err := client.Do(ctx, http.MethodGet, "/token?scope="+url.QueryEscape(scope), nil)
		Expect(err).NotTo(HaveOccurred())
		var body struct{ Token string }
		Expect(json.NewDecoder(response.Body).Decode(&body)).To(Succeed())
		Expect(response.Body.Close()).To(Succeed())
		return body.Token
	}

	It("issues tokens to anonymous clients and revokes them", func(ctx context.Context) {
		start(upstreamsim.Options{Authentication: upstreamsim.Bearer, PublicTokens: true, Username: "u", Password: "p"})
		response, err := client.Do(ctx, http.MethodGet, "/token?scope=repository:"+name+":pull", nil)
		Expect(err).NotTo(HaveOccurred())
		defer response.Body.Close()
		var body struct{ Token string }
		Expect(json.NewDecoder(response.Body).Decode(&body)).To(Succeed())
		client.Authorization = "Bearer " + body.Token
		Expect(layer(ctx)).To(Succeed())
		registry.RevokeTokens()
		Expect(pull.StatusOf(layer(ctx))).To(Equal(http.StatusUnauthorized))
		client.Authorization = "Basic dTpvdGhlcg=="
		_, err = client.Do(ctx, http.MethodGet, "/token", nil)
		Expect(pull.StatusOf(err)).To(Equal(http.StatusUnauthorized), "a client with a wrong password is not anonymous")
	})

	It("serves through a wrapper", func(ctx context.Context) {
		start(upstreamsim.Options{})
		registry.Wrap(func(http.Handler) http.Handler { return http.NotFoundHandler() })
		Expect(pull.StatusOf(layer(ctx))).To(Equal(http.StatusNotFound))
		registry.Wrap(nil)
		Expect(layer(ctx)).To(Succeed())
	})

	It("asks for its accounts on every request, and grants the actions of the account", func(ctx context.Context) {
		accounts := []upstreamsim.Account{{Username: "u", Password: "p"}}
		recorder := &upstreamsim.Recorder{}
		start(upstreamsim.Options{
			Authentication: upstreamsim.Bearer, Observe: recorder.Observe,
			Accounts: func() []upstreamsim.Account { return accounts },
			Content:  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		})
		upload := func() int {
			_, err := client.Do(ctx, http.MethodPost, "/v2/"+name+"/blobs/uploads/", nil)
			return pull.StatusOf(err)
		}
		client.Authorization = "Bearer " + token(ctx, "repository:"+name+":pull,push")
		Expect(upload()).To(Equal(http.StatusUnauthorized))

		accounts[0].MayPush = true
		client.Authorization = "Bearer " + token(ctx, "repository:"+name+":pull,push")
		recorder.Reset()
		Expect(upload()).To(BeZero())
		Expect(recorder.Requests(upstreamsim.Push)).To(ConsistOf(And(
			HaveField("User", "u"), HaveField("Status", http.StatusNoContent), HaveField("Client", "127.0.0.1"))))

		accounts = nil
		Expect(upload()).To(Equal(http.StatusUnauthorized))
		Expect(recorder.Requests(upstreamsim.Push)).To(HaveLen(2))
	})

	It("requires a token for the right scope", func(ctx context.Context) {
		start(upstreamsim.Options{Authentication: upstreamsim.Bearer, Username: "u", Password: "p"})
		Expect(pull.StatusOf(layer(ctx))).To(Equal(http.StatusUnauthorized))
		for scope, status := range map[string]int{"repository:library/other:pull": http.StatusUnauthorized, "repository:" + name + ":pull": 0} {
			client.Authorization = "Bearer " + token(ctx, scope)
			Expect(pull.StatusOf(layer(ctx))).To(Equal(status), scope)
		}
	})

	It("rejects expired tokens", func(ctx context.Context) {
		start(upstreamsim.Options{Authentication: upstreamsim.Bearer, Username: "u", Password: "p", TokenLifetime: 10 * time.Millisecond})
		client.Authorization = "Bearer " + token(ctx, "repository:"+name+":pull")
		Eventually(func() int { return pull.StatusOf(layer(ctx)) }).Should(Equal(http.StatusUnauthorized))
	})

	It("refuses and accepts connections", func(ctx context.Context) {
		start(upstreamsim.Options{})
		registry.Refuse()
		Expect(layer(ctx)).To(MatchError(ContainSubstring("refused")))
		Expect(registry.Accept()).To(Succeed())
		Expect(layer(ctx)).To(Succeed())
	})

	It("hangs until the faults change", func(ctx context.Context) {
		start(upstreamsim.Options{})
		registry.Misbehave(upstreamsim.Faults{Hang: true})
		impatient, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		Expect(layer(impatient)).To(MatchError(context.DeadlineExceeded))
		registry.Misbehave(upstreamsim.Faults{})
		Expect(layer(ctx)).To(Succeed())
	})

	It("holds requests and pauses bodies until the faults change", func(ctx context.Context) {
		start(upstreamsim.Options{})
		size := len(image.Layers()[0].Data)
		for sent, faults := range map[int]upstreamsim.Faults{0: {Hold: true}, size / 2: {PauseAfter: size / 2}} {
			registry.ResetCounters()
			registry.Misbehave(faults)
			got := make(chan error, 1)
			go func() { got <- layer(ctx) }()
			Eventually(func() int { return registry.Counters().Total(upstreamsim.BlobGet) }).Should(Equal(1))
			Eventually(func() int64 { return registry.Counters().Bytes }).Should(BeEquivalentTo(sent))
			Consistently(got, "50ms").ShouldNot(Receive())
			registry.Misbehave(upstreamsim.Faults{})
			Eventually(got).Should(Receive(BeNil()))
			Expect(registry.Counters().Bytes).To(BeEquivalentTo(size))
		}
	})

	DescribeTable("sends bodies that are", func(ctx context.Context, faults upstreamsim.Faults, expected OmegaMatcher) {
		start(upstreamsim.Options{})
		faults.Times = 1
		registry.Misbehave(faults)
		Expect(layer(ctx)).To(expected)
		Expect(layer(ctx)).To(Succeed(), "the fault happens once")
	},
		Entry("cut", upstreamsim.Faults{CutAfter: 1000}, MatchError(ContainSubstring("ends after 1000 bytes: unexpected EOF"))),
		Entry("short", upstreamsim.Faults{Short: 10}, MatchError(pull.ErrWrongContent)),
		Entry("overlong", upstreamsim.Faults{Overlong: 10}, MatchError(ContainSubstring("unexpected EOF"))),
		Entry("corrupt", upstreamsim.Faults{Corrupt: true}, MatchError(pull.ErrWrongContent)),
	)

	It("redirects to a host that counts credentials", func(ctx context.Context) {
		start(upstreamsim.Options{})
		registry.Misbehave(upstreamsim.Faults{RedirectBlobs: true})
		Expect(layer(ctx)).To(Succeed())
		Expect(registry.Counters().ForeignRequests).To(Equal(1))
		Expect(registry.Counters().ForeignAuthorizations).To(BeZero())

		client.URL, client.Authorization = "http://"+registry.ForeignHost(), "Basic dTpw"
		Expect(layer(ctx)).To(Succeed())
		Expect(registry.Counters().ForeignAuthorizations).To(Equal(1))
	})
})
