// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/miekg/dns"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

var _ = Describe("Handler", func() {
	var handler *Handler

	BeforeEach(func() {
		slice := func(service string) *discoveryv1.EndpointSlice {
			return &discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{
					Name: service, Namespace: "ns",
					Labels: map[string]string{discoveryv1.LabelServiceName: service},
				},
				AddressType: discoveryv1.AddressTypeIPv4,
				Endpoints: []discoveryv1.Endpoint{
					{Addresses: []string{"10.42.0.7"}, Hostname: new("pod-0")},
					{Addresses: []string{"10.42.0.8"}, Conditions: discoveryv1.EndpointConditions{Ready: new(false)}},
				},
			}
		}
		service := func(name string, ips ...string) *corev1.Service {
			return &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"},
				Spec:       corev1.ServiceSpec{ClusterIP: ips[0], ClusterIPs: ips},
			}
		}
		handler = &Handler{
			Domain:        "larder.test",
			Address:       netip.MustParseAddr("192.0.2.2"),
			ClusterDomain: "cluster.local",
			Services: &Cluster{Reader: fake.NewClientBuilder().WithObjects(
				service("web", "10.43.0.9", "fd00::9"),
				service("headless", "None"), slice("headless"),
			).Build()},
		}
	})

	ask := func(name string, kind uint16) *dns.Msg {
		reply := new(dns.Msg)
		question := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
		handler.ServeDNS(writer(func(m *dns.Msg) { reply = m }), question)
		Expect(reply.Id).To(Equal(question.Id))
		return reply
	}

	DescribeTable("resolves the address",
		func(name string, expected ...string) {
			reply := ask(name, dns.TypeA)
			Expect(reply.Rcode).To(Equal(dns.RcodeSuccess))
			addresses := make([]string, 0, len(reply.Answer))
			for _, record := range reply.Answer {
				addresses = append(addresses, record.(*dns.A).A.String())
			}
			Expect(addresses).To(ConsistOf(expected))
		},
		Entry("of the landscape", "larder.test", "192.0.2.2"),
		Entry("of a name below", "private.larder.test", "192.0.2.2"),
		Entry("in any case of letters", "Private.LARDER.test", "192.0.2.2"),
		Entry("of the local host", "localhost", "127.0.0.1"),
		Entry("of a Service", "web.ns.svc.cluster.local", "10.43.0.9"),
		Entry("of a Service, in short", "web.ns.svc", "10.43.0.9"),
		Entry("of a headless Service", "headless.ns.svc.cluster.local", "10.42.0.7"),
		Entry("of a pod of a headless Service", "pod-0.headless.ns.svc.cluster.local", "10.42.0.7"),
	)

	DescribeTable("reports that a name does not exist:",
		func(name string) { Expect(ask(name, dns.TypeA).Rcode).To(Equal(dns.RcodeNameError)) },
		Entry("on the internet", "docker.io"),
		Entry("a Service", "other.ns.svc.cluster.local"),
		Entry("a namespace", "web.other.svc.cluster.local"),
		Entry("a pod", "pod-1.headless.ns.svc.cluster.local"),
		Entry("too many labels", "a.b.c.d.svc.cluster.local"),
		Entry("no Service", "svc.cluster.local"),
		Entry("a domain with the same ending", "notlarder.test"),
	)

	It("has no other records of an existing name", func() {
		reply := ask("private.larder.test", dns.TypeAAAA)
		Expect(reply.Rcode).To(Equal(dns.RcodeSuccess))
		Expect(reply.Answer).To(BeEmpty())
	})

	It("distinguishes a failure from a name that does not exist", func() {
		handler.Services = brokenServices{}
		Expect(ask("web.ns.svc", dns.TypeA).Rcode).To(Equal(dns.RcodeServerFailure))
	})
})

type brokenServices struct{}

func (brokenServices) Addresses(context.Context, string, string, string) ([]netip.Addr, bool, error) {
	return nil, false, errors.New("broken")
}

// writer is a dns.ResponseWriter that passes the response on.
type writer func(*dns.Msg)

func (w writer) WriteMsg(m *dns.Msg) error { w(m); return nil }
func (writer) LocalAddr() net.Addr         { return &net.UDPAddr{} }
func (writer) RemoteAddr() net.Addr        { return &net.UDPAddr{} }
func (writer) Write([]byte) (int, error)   { return 0, errors.New("not a message") }
func (writer) Close() error                { return nil }
func (writer) TsigStatus() error           { return nil }
func (writer) TsigTimersOnly(bool)         {}
func (writer) Hijack()                     {}
func (writer) Network() string             { return "udp" }
