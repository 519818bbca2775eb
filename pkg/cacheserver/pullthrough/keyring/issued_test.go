// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/sirupsen/logrus"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/keyring"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/issuer"
)

// fakeCloud issues credentials whose passwords are the key, or the token, and a number.
type fakeCloud struct {
	clock *clocktesting.FakeClock

	mu     sync.Mutex
	err    error
	issued int
}

type fakeIssuer struct {
	cloud *fakeCloud
	name  string
}

func (f *fakeIssuer) Issue(context.Context) (credentials.Credential, time.Time, error) {
	f.cloud.mu.Lock()
	defer f.cloud.mu.Unlock()
	if f.cloud.err != nil {
		return credentials.Credential{}, time.Time{}, f.cloud.err
	}
	f.cloud.issued++
	return credentials.Credential{Username: "AWS", Password: fmt.Sprintf("%s-%d", f.name, f.cloud.issued)}, f.cloud.clock.Now().Add(12 * time.Hour), nil
}

func (f *fakeCloud) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fakeCloud) issuer(m credentials.Material) (issuer.Issuer, error) {
	if m.AWS.AccessKeyID == "foreign" {
		return nil, errors.New("the host is not a registry of Amazon ECR")
	}
	return &fakeIssuer{cloud: f, name: m.AWS.AccessKeyID + m.WorkloadIdentity.Token}, nil
}

var _ = Describe("Keyring with issued credentials", func() {
	var (
		dir      string
		upstream *fakeUpstream
		clock    *clocktesting.FakeClock
		cloud    *fakeCloud
		ring     *keyring.Keyring
	)

	key := func(id string) credentials.Named {
		return credentials.Named{Name: "secret-" + id, Material: credentials.Material{AWS: credentials.AWSKeys{AccessKeyID: id, SecretAccessKey: "hunter2"}}}
	}
	identity := func(token string) credentials.Named {
		return credentials.Named{Name: "puller", Material: credentials.Material{WorkloadIdentity: credentials.WorkloadIdentity{
			Provider: credentials.ProviderAWS, Config: "{}", Token: token,
		}}}
	}
	write := func(wanted credentials.Named, previous *credentials.Named) {
		GinkgoHelper()
		for name, content := range credentials.Files("", wanted, previous) {
			Expect(os.WriteFile(filepath.Join(dir, name), content, 0o600)).To(Succeed())
		}
	}
	start := func() {
		GinkgoHelper()
		log := logrus.New()
		log.SetOutput(GinkgoWriter)
		ring = keyring.New(keyring.Options{Source: keyring.Directory(dir, "", "registry.example.com"), Clock: clock, Log: log, Issuers: cloud.issuer})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			ring.Run(ctx, upstream)
		}()
		DeferCleanup(func() {
			cancel()
			Eventually(done).Should(BeClosed())
		})
	}
	active := func() string {
		_, c, err := ring.For(context.Background(), "team/app")
		if err != nil {
			return err.Error()
		}
		return c.Password
	}
	report := func() credentials.Report { return *ring.Report() }
	advance := func(d time.Duration) {
		GinkgoHelper()
		Eventually(clock.HasWaiters).Should(BeTrue())
		clock.Step(d)
	}

	BeforeEach(func() {
		dir = GinkgoT().TempDir()
		upstream = &fakeUpstream{results: map[string]error{}}
		clock = clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		cloud = &fakeCloud{clock: clock}
	})

	It("makes the first request wait for the first credential, and checks it", func() {
		write(key("one"), nil)
		start()
		Expect(active()).To(Equal("one-1"))
		Eventually(report).Should(And(HaveField("SecretName", "secret-one"), HaveField("State", credentials.StateActive)))
		Expect(upstream.checked()).To(ContainElement("one-1"))
	})

	It("renews the credential before it expires", func() {
		write(key("one"), nil)
		start()
		Eventually(report).Should(HaveField("State", credentials.StateActive))
		advance(9 * time.Hour)
		Eventually(active).Should(Equal("one-2"))
		Eventually(upstream.checked).Should(ContainElement("one-2"))
	})

	It("replaces the token of a workload identity without a check or another name", func() {
		write(identity("before"), nil)
		start()
		Eventually(report).Should(HaveField("State", credentials.StateActive))
		write(identity("after"), nil)
		Expect(active()).To(Equal("before-1"), "the credential is still valid")
		Expect(report().PendingSecretName).To(BeEmpty())
		advance(9 * time.Hour)
		Eventually(active).Should(Equal("after-2"))
	})

	It("keeps the active credential while none can be issued for the candidate", func() {
		one := key("one")
		write(one, nil)
		start()
		Eventually(report).Should(HaveField("State", credentials.StateActive))
		cloud.fail(errors.New("connection refused"))
		write(key("two"), &one)
		Eventually(report).Should(And(HaveField("PendingSecretName", "secret-two"), HaveField("State", credentials.StatePending),
			HaveField("Message", "issuing failed: connection refused")))
		Expect(active()).To(Equal("one-1"))

		cloud.fail(nil)
		Eventually(func() string { clock.Step(time.Second); return active() }).Should(Equal("two-2"))
		Expect(report()).To(And(HaveField("SecretName", "secret-two"), HaveField("State", credentials.StateActive)))
	})

	It("reports an expired credential that is not renewed, and recovers", func() {
		write(key("one"), nil)
		start()
		Eventually(report).Should(HaveField("State", credentials.StateActive))
		cloud.fail(errors.New("connection refused"))
		advance(9 * time.Hour)
		Consistently(report, 50*time.Millisecond).Should(HaveField("State", credentials.StateActive))
		Expect(active()).To(Equal("one-1"))
		Eventually(func() credentials.State { clock.Step(30 * time.Minute); return report().State }).Should(Equal(credentials.StatePending))
		Expect(active()).To(Equal("issuing failed: connection refused"))
		_, _, err := ring.For(context.Background(), "team/app")
		Expect(err).To(Satisfy(func(err error) bool { return err.(interface{ Temporary() bool }).Temporary() }), "no rejection: the service may be down")

		cloud.fail(nil)
		Eventually(func() credentials.State { clock.Step(time.Minute); return report().State }).Should(Equal(credentials.StateActive))
		Expect(active()).To(HavePrefix("one-"))
	})

	It("issues another credential before it checks a rejected one again", func() {
		upstream.respond("one-1", rejection)
		write(key("one"), nil)
		start()
		Eventually(report).Should(HaveField("State", credentials.StateRejected))
		advance(29 * time.Second)
		Expect(active()).To(Equal("one-1"))
		advance(2 * time.Second)
		Eventually(report).Should(HaveField("State", credentials.StateActive))
		Expect(active()).To(Equal("one-2"))
	})

	It("reports material for another registry", func() {
		write(key("foreign"), nil)
		start()
		Expect(active()).To(Equal("issuing failed: the host is not a registry of Amazon ECR"))
		Eventually(report).Should(HaveField("State", credentials.StatePending))
	})
})
