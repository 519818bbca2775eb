// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"encoding/json"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/pullsecret"
)

var _ = Describe("Rotation", func() {
	const period = 24 * time.Hour
	var (
		now       time.Time
		state     passwords
		account   pullsecret.Account
		delivered bool
	)

	BeforeEach(func() {
		now = time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)
		account = pullsecret.Account{Namespaces: []string{"ci", "scan"}, RotationPeriod: metav1.Duration{Duration: period}}
		state, delivered = passwords{}, true
	})
	// wait lets time pass, with steps that are due every minute.
	wait := func(d time.Duration) {
		for end := now.Add(d); now.Before(end); {
			now = now.Add(time.Minute)
			state = state.advance(now, account, delivered)
		}
	}
	start := func() string {
		state = state.advance(now, account, false)
		wait(propagation)
		return state.Current.Text
	}
	accepts := func(text string) bool {
		for _, hash := range state.accepted() {
			if hash.SHA256 == config.HashPassword(text, nil).SHA256 && (hash.NotAfter == nil || now.Before(*hash.NotAfter)) {
				return true
			}
		}
		return false
	}

	It("gives the first password to servers before clients", func() {
		state = state.advance(now, account, true)
		Expect(state.Current).To(BeNil())
		first := state.Next.Text
		Expect(accepts(first)).To(BeTrue())
		wait(propagation - time.Minute)
		Expect(state.Current).To(BeNil())
		wait(time.Minute)
		Expect(state.Current.Text).To(Equal(first))
		Expect(state.Next).To(BeNil())
		Expect(state.Previous).To(BeEmpty())
	})

	It("generates passwords of 256 bits", func() {
		first := start()
		Expect(first).To(HaveLen(43))
		Expect(generate()).NotTo(Equal(first))
	})

	DescribeTable("replaces a password after its period, and always accepts what clients have", func(configured, effective time.Duration) {
		account.RotationPeriod.Duration = configured
		first := start()
		wait(effective - time.Minute)
		Expect(state.Next).To(BeNil())
		wait(time.Minute)
		Expect(state.Next).NotTo(BeNil())
		Expect(state.Current.Text).To(Equal(first), "clients keep it until the servers have the next one")
		wait(propagation)
		second := state.Current.Text
		Expect(second).NotTo(Equal(first))
		for range int(acceptance / time.Minute) {
			Expect(accepts(first)).To(BeTrue())
			Expect(accepts(second)).To(BeTrue())
			wait(time.Minute)
		}
		wait(time.Minute)
		Expect(accepts(first)).To(BeFalse())
		Expect(accepts(second)).To(BeTrue())
		wait(time.Minute)
		Expect(state.Previous).To(BeEmpty())
	},
		Entry("of a day", period, period),
		Entry("of a month", 30*period, 30*period),
		Entry("of an hour", time.Hour, time.Hour),
		Entry("that is missing", time.Duration(0), time.Hour),
	)

	It("accepts the previous password for an hour after the last namespace has the new one", func() {
		first := start()
		delivered = false
		wait(period + propagation + 10*time.Hour)
		Expect(accepts(first)).To(BeTrue())
		delivered = true
		wait(acceptance)
		Expect(accepts(first)).To(BeTrue())
		wait(2 * time.Minute)
		Expect(accepts(first)).To(BeFalse())
	})

	It("does not accept a password forever because a namespace cannot be written", func() {
		first := start()
		delivered = false
		wait(2*(period+propagation) + acceptance - time.Minute)
		Expect(accepts(first)).To(BeTrue())
		wait(2 * time.Minute)
		Expect(accepts(first)).To(BeFalse())
	})

	It("does not take a password for delivered with the step that makes it current", func() {
		start()
		wait(period)
		now = now.Add(propagation)
		state = state.advance(now, account, true)
		Expect(state.Previous).To(HaveExactElements(HaveField("NotAfter", BeNil())))
	})

	It("accepts each previous password for an hour, even if another rotation follows within it", func() {
		account.RotationPeriod.Duration = time.Hour
		first := start()
		delivered = false
		wait(time.Hour + propagation + 50*time.Minute)
		second := state.Current.Text
		delivered = true
		wait(time.Minute)
		delivered = false
		wait(10*time.Minute + propagation)
		Expect(state.Current.Text).NotTo(Equal(second))
		wait(acceptance - 20*time.Minute)
		Expect(accepts(first)).To(BeTrue())
		Expect(accepts(second)).To(BeTrue())
		wait(10 * time.Minute)
		Expect(accepts(first)).To(BeFalse())
		Expect(accepts(second)).To(BeTrue())
	})

	Describe("after a namespace has been removed", func() {
		// Pods mount the Secret, which takes a kubelet up to two minutes.
		const mounted = 2 * time.Minute

		remove := func(namespaces ...string) {
			account.Namespaces = namespaces
			state = state.advance(now, account, delivered)
		}

		It("refuses the password that it knows after minutes, and generates only one", func() {
			first := start()
			wait(time.Hour)
			remove("ci")
			wait(propagation)
			second := state.Current.Text
			Expect(second).NotTo(Equal(first))
			wait(mounted)
			Expect(accepts(first)).To(BeTrue(), "pods in the other namespaces still use it")
			wait(revocation - mounted)
			Expect(accepts(first)).To(BeFalse())
			wait(time.Hour)
			Expect(state.Current.Text).To(Equal(second))
			Expect(state.Next).To(BeNil())
		})

		It("refuses it even if another namespace cannot be written", func() {
			first := start()
			delivered = false
			remove("ci")
			wait(propagation + revocation)
			Expect(accepts(first)).To(BeFalse())
		})

		It("refuses all passwords that it knows", func() {
			first := start()
			delivered = false // The namespace may still have the first password.
			wait(period + propagation)
			second := state.Current.Text
			remove("ci")
			wait(propagation + mounted)
			Expect(accepts(first)).To(BeTrue())
			Expect(accepts(second)).To(BeTrue())
			wait(revocation - mounted)
			Expect(accepts(first)).To(BeFalse())
			Expect(accepts(second)).To(BeFalse())
			Expect(accepts(state.Current.Text)).To(BeTrue())
		})

		It("refuses it if it was removed while a new one was on its way to servers", func() {
			first := start()
			wait(period + time.Minute)
			Expect(state.Next).NotTo(BeNil())
			remove("ci")
			wait(propagation + revocation)
			Expect(accepts(first)).To(BeFalse())
			Expect(state.Next).To(BeNil())
			Expect(state.Namespaces).To(HaveExactElements("ci"))
		})

		It("gives pods time for each password if another one is removed soon", func() {
			account.Namespaces = []string{"ci", "scan", "test"}
			start()
			remove("ci", "scan")
			wait(propagation)
			second := state.Current.Text
			remove("ci")
			wait(propagation + mounted)
			Expect(accepts(second)).To(BeTrue())
			Expect(accepts(state.Current.Text)).To(BeTrue())
			Expect(state.Previous).To(HaveLen(maxPrevious))
		})
	})

	It("does not replace a password for a new namespace", func() {
		start()
		account.Namespaces = []string{"ci", "new", "scan"}
		state = state.advance(now, account, true)
		Expect(state.Next).To(BeNil())
		account.Namespaces = []string{"ci", "scan"}
		state = state.advance(now, account, true)
		Expect(state.Next).NotTo(BeNil(), "the namespace may know it")
	})

	It("never prints a password", func() {
		first := start()
		for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
			Expect(fmt.Sprintf(format, *state.Current)).NotTo(ContainSubstring(first))
		}
	})

	Describe("of a cache's accounts", func() {
		accounts := []pullsecret.Account{
			{Cache: "registry-quay-io", Name: "builder", SecretName: "registry-quay-io.builder", Namespaces: []string{"ci", "scan"}, Repositories: []string{"team-a"}},
			{Cache: "registry-quay-io", Name: "scanner", SecretName: "registry-quay-io.scanner", Namespaces: []string{"ci", "scan"}},
		}
		all := func(pullsecret.Account) bool { return true }

		It("is stored with all that a restarted controller needs, and servers see only hashes", func() {
			l := ledger{}.advance(now, accounts, all).advance(now.Add(propagation), accounts, all)
			content, err := l.encode(accounts)
			Expect(err).NotTo(HaveOccurred())
			Expect(decodeLedger(content, now.Add(propagation))).To(BeComparableTo(l))
			parsed, err := config.ParseAccounts(content[pullsecret.AccountsKey])
			Expect(err).NotTo(HaveOccurred())
			Expect(parsed.Accounts).To(HaveLen(2))
			Expect(parsed.Accounts[0]).To(And(HaveField("Name", "builder"), HaveField("Repositories", []string{"team-a"})))
			Expect(parsed.Accounts[1]).To(And(HaveField("Name", "scanner"), HaveField("Repositories", []string{"*"})))
			text := l["builder"].Current.Text
			Expect(parsed.Accounts[0].Passwords).To(ConsistOf(config.HashPassword(text, nil)))
			Expect(string(content[pullsecret.AccountsKey])).NotTo(ContainSubstring(text))
		})

		It("drops the accounts that are gone", func() {
			l := ledger{}.advance(now, accounts, all).advance(now, accounts[:1], all)
			Expect(l).To(And(HaveLen(1), HaveKey("builder")))
		})

		// stored returns a ledger in which the account builder has all that it can have, as JSON.
		stored := func() map[string]any {
			GinkgoHelper()
			state, account = passwords{}, accounts[0]
			account.RotationPeriod.Duration = period
			start()
			wait(period + propagation)
			wait(period)
			content, err := ledger{"builder": state}.encode(accounts[:1])
			Expect(err).NotTo(HaveOccurred())
			var encoded map[string]any
			Expect(json.Unmarshal(content[stateKey], &encoded)).To(Succeed())
			builder := encoded["builder"].(map[string]any)
			builder["previous"] = []any{map[string]any{"sha256": config.HashPassword("x", nil).SHA256, "notAfter": now.Add(time.Minute)}}
			return encoded
		}
		// recovered returns the passwords of the account after the Secret with the given state has been read and stored
		// again.
		recovered := func(state []byte) (passwords, config.Account) {
			GinkgoHelper()
			l := decodeLedger(map[string][]byte{stateKey: state}, now).advance(now, accounts[:1], all)
			content, err := l.encode(accounts[:1])
			Expect(err).NotTo(HaveOccurred())
			parsed, err := config.ParseAccounts(content[pullsecret.AccountsKey])
			Expect(err).NotTo(HaveOccurred())
			return l["builder"], parsed.Accounts[0]
		}

		DescribeTable("starts again after somebody has changed the Secret", func(state string) {
			builder, accepted := recovered([]byte(state))
			Expect(builder.Current).To(BeNil())
			Expect(builder.Next).NotTo(BeNil())
			Expect(accepted.Passwords).To(ConsistOf(config.HashPassword(builder.Next.Text, nil)))
		},
			Entry("to nothing", ""),
			Entry("to something else", "x"),
			Entry("to null", "null"),
			Entry("to another type", "[]"),
			Entry("to an account of another type", `{"builder": []}`),
			Entry("to an empty account", `{"builder": {}}`),
			Entry("to empty passwords", `{"builder": {"current": {}, "next": {}, "previous": [{}]}}`),
			Entry("to passwords of somebody else", `{"builder": {"current": {"text": "secret"}, "next": {"text": "password"}}}`),
		)

		DescribeTable("keeps what is usable of a changed Secret", func(change func(builder map[string]any), expected types.GomegaMatcher) {
			encoded := stored()
			change(encoded["builder"].(map[string]any))
			state, err := json.Marshal(encoded)
			Expect(err).NotTo(HaveOccurred())
			builder, accepted := recovered(state)
			Expect(builder).To(expected)
			for _, text := range []*password{builder.Current, builder.Next} {
				if text != nil {
					Expect(accepted.Passwords).To(ContainElement(config.HashPassword(text.Text, nil)))
				}
			}
			l := ledger{"builder": builder}
			for end := now.Add(period + acceptance + propagation); now.Before(end); {
				now = now.Add(time.Minute)
				account := accounts[0]
				account.RotationPeriod.Duration = period
				l = l.advance(now, []pullsecret.Account{account}, all)
			}
			Expect(l["builder"].Current.Text).NotTo(Equal(builder.Current.Text), "it is rotated in time")
			Expect(l["builder"].accepted()).NotTo(ContainElement(HaveField("SHA256", config.HashPassword("x", nil).SHA256)), "it expires in time")
		},
			Entry("without a change", func(map[string]any) {},
				And(HaveField("Current", Not(BeNil())), HaveField("Next", Not(BeNil())), HaveField("Previous", HaveLen(1)))),
			Entry("with a hash that is none", func(builder map[string]any) {
				builder["previous"] = append(builder["previous"].([]any), map[string]any{"sha256": "x"})
			}, HaveField("Previous", HaveLen(1))),
			Entry("with a hash that never expires", func(builder map[string]any) {
				builder["previous"].([]any)[0].(map[string]any)["notAfter"] = now.Add(1000 * period)
			}, HaveField("Previous", HaveLen(1))),
			Entry("with too many hashes", func(builder map[string]any) {
				hash := builder["previous"].([]any)[0]
				builder["previous"] = []any{hash, hash, hash, hash, hash}
			}, HaveField("Previous", HaveLen(2))),
			Entry("with a current password of the future", func(builder map[string]any) {
				builder["current"].(map[string]any)["since"], builder["next"] = now.Add(1000*period), nil
			}, And(HaveField("Current", Not(BeNil())), HaveField("Next", BeNil()))),
			Entry("with a next password of the future", func(builder map[string]any) {
				builder["next"].(map[string]any)["since"] = now.Add(1000 * period)
			}, HaveField("Next", Not(BeNil()))),
			Entry("with unknown namespaces", func(builder map[string]any) { builder["namespaces"] = []string{"x", ""} }, HaveField("Current", Not(BeNil()))),
		)
	})
})
