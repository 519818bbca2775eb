// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package dns is the DNS server of a landscape's pods and processes. It resolves names in the landscape's own domain
// and names of Services.
package dns

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// timeToLive of responses in seconds; Services come and go during tests.
const timeToLive = 1

// Services resolves Services.
type Services interface {
	// Addresses returns the addresses of a Service, or of its endpoint with the given hostname, and whether the Service
	// exists.
	Addresses(ctx context.Context, namespace, service, hostname string) ([]netip.Addr, bool, error)
}

// Handler responds to queries.
type Handler struct {
	// Domain is a domain in which all names have the address.
	Domain  string
	Address netip.Addr
	// ClusterDomain is the optional suffix of the name of a Service.
	ClusterDomain string
	Services      Services
}

// Serve serves on UDP and TCP at each of the addresses until ctx is done.
func Serve(ctx context.Context, handler dns.Handler, addresses ...string) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, address := range addresses {
		for _, network := range []string{"udp", "tcp"} {
			server := &dns.Server{Addr: address, Net: network, Handler: handler}
			group.Go(server.ListenAndServe)
			group.Go(func() error {
				<-ctx.Done()
				return server.Shutdown()
			})
		}
	}
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// ServeDNS implements dns.Handler.
func (h *Handler) ServeDNS(w dns.ResponseWriter, request *dns.Msg) {
	reply := new(dns.Msg).SetReply(request)
	reply.Authoritative = true
	if err := h.resolve(request, reply); err != nil {
		reply.SetRcode(request, dns.RcodeServerFailure)
	}
	_ = w.WriteMsg(reply)
}

func (h *Handler) resolve(request, reply *dns.Msg) error {
	if len(request.Question) != 1 {
		return errors.New("query must have one question")
	}
	question := request.Question[0]
	addresses, known, err := h.lookup(context.Background(), strings.ToLower(strings.TrimSuffix(question.Name, ".")))
	if err != nil {
		return err
	}
	if !known {
		// Respond at once, because no name outside of the landscape is expected to exist.
		reply.Rcode = dns.RcodeNameError
		return nil
	}
	if question.Qtype != dns.TypeA {
		return nil
	}
	for _, address := range addresses {
		reply.Answer = append(reply.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: timeToLive},
			A:   address.AsSlice(),
		})
	}
	return nil
}

func (h *Handler) lookup(ctx context.Context, name string) ([]netip.Addr, bool, error) {
	switch {
	case name == "localhost":
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, true, nil
	case name == h.Domain || strings.HasSuffix(name, "."+h.Domain):
		return []netip.Addr{h.Address}, true, nil
	}
	name, ok := strings.CutSuffix(strings.TrimSuffix(name, "."+h.ClusterDomain), ".svc")
	if !ok {
		return nil, false, nil
	}
	switch labels := strings.Split(name, "."); len(labels) {
	case 2: // service.namespace
		return h.Services.Addresses(ctx, labels[1], labels[0], "")
	case 3: // hostname.service.namespace
		return h.Services.Addresses(ctx, labels[2], labels[1], labels[0])
	}
	return nil, false, nil
}
