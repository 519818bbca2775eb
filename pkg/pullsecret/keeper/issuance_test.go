// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"io"
	"net"
	"strconv"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	testclock "k8s.io/utils/clock/testing"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/issuer"
	"github.com/larder-project/larder/pkg/pullsecret"
)

// counter issues credentials with a lifetime of an hour.
type counter struct {
	clock  *testclock.FakeClock
	issued int
}

func (c *counter) Issue(context.Context) (credentials.Credential, time.Time, error) {
	c.issued++
	return credentials.Credential{Username: "user", Password: strconv.Itoa(c.issued)}, c.clock.Now().Add(time.Hour), nil
}

var _ = Describe("Issuance", func() {
	It("renews credentials together that are due soon", func(ctx context.Context) {
		clock := testclock.NewFakeClock(time.Now())
		changes := 0
		i := &issuance{clock: clock, renewals: map[identity]*renewal{}, changed: func(bool) { changes++ }}
		add := func(host string) *renewal {
			added := &renewal{renewer: issuer.NewRenewer(&counter{clock: clock}, clock), err: errNotIssued}
			i.renewals[identity{host: host}] = added
			return added
		}
		renew := func(r *renewal) {
			Expect(r.renewer.Renew(ctx)).To(Succeed())
			i.attempted(ctx, r)
		}
		old, young := add("old"), add("young")
		renew(old)
		clock.Step(20 * time.Minute)
		renew(young)
		Expect(old.renewer.Due()).To(BeTemporally(">", clock.Now()), "it is not due soon")
		clock.Step(15 * time.Minute)
		latest := add("latest")
		renew(latest)
		Expect(old.renewer.Due()).To(BeTemporally("==", clock.Now()))
		Expect(young.renewer.Due()).To(BeTemporally(">", clock.Now()))
		renew(old)
		for _, r := range []*renewal{old, young, latest} {
			Expect(r.renewer.Due()).To(BeTemporally(">", clock.Now()), "renewals do not go round in circles")
		}
		Expect(changes).To(Equal(4))
	})

	DescribeTable("does not repeat a proxy's words", func(ctx context.Context, response, expected string) {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(listener.Close)
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = io.WriteString(conn, response)
				_ = conn.Close()
			}
		}()
		issuing, err := newIssuer(pullsecret.Registry{
			Host:       "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
			Connection: pullsecret.Connection{HTTPSProxy: "http://user:secret@" + listener.Addr().String()},
		}, credentials.Material{AWS: credentials.AWSKeys{AccessKeyID: "AKIA0123456789ABCDEF", SecretAccessKey: "key"}})
		Expect(err).NotTo(HaveOccurred())
		_, _, err = issuing.Issue(ctx)
		Expect(err).To(MatchError("ecr:GetAuthorizationToken: " + expected))
	},
		Entry("if it refuses the connection", "HTTP/1.1 407 user:secret is wrong\r\nContent-Length: 0\r\n\r\n", "the proxy refused the connection with status 407"),
		Entry("if it does not speak HTTP", "user:secret is wrong\r\n\r\n", "no valid response"),
		Entry("if it sends an invalid header", "HTTP/1.1 200 OK\r\nsecret\r\n\r\n", "no valid response"),
	)
})
