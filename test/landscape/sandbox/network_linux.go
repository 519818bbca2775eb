// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/larder-project/larder/test/landscape"
)

// insideLink is the landscape's end of the link.
const insideLink = "uplink"

// lockTimeout exceeds the time that other landscapes, started at once, may need for their namespaces.
const lockTimeout = 3 * time.Minute

// pools are documentation networks, which do not exist on the internet.
var pools = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24")}

// LockNetworks waits until no other landscape of the machine is between the choice of its addresses and their use. The
// kernel ends the lock with the process.
func LockNetworks(ctx context.Context) (unlock func(), err error) {
	var lock net.Listener
	waited := waitFor(ctx, lockTimeout, func() bool {
		lock, err = net.Listen("unix", "@larder-networks")
		return err == nil
	})
	if waited != nil {
		return nil, fmt.Errorf("another landscape is choosing its addresses: %w", errors.Join(waited, err))
	}
	return func() { _ = lock.Close() }, nil
}

// ChooseNetwork picks a pair of addresses that the host does not use. The id determines the start of the search.
func ChooseNetwork(id string) (landscape.Network, error) {
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return landscape.Network{}, fmt.Errorf("list the host's addresses: %w", err)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return landscape.Network{}, fmt.Errorf("list the host's routes: %w", err)
	}
	var used []netip.Prefix
	for _, address := range addresses {
		used = append(used, prefix(address.IPNet))
	}
	for _, route := range routes {
		if route.Dst != nil && prefix(route.Dst).Bits() > 0 {
			used = append(used, prefix(route.Dst))
		}
	}
	subnet, err := choose(pools, used, id)
	return landscape.Network{Subnet: subnet}, err
}

// connect joins the network namespace of a process to the host.
func connect(l *landscape.Landscape, pid int) error {
	network := l.Network()
	host := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: l.ID()},
		PeerName:      insideLink,
		PeerNamespace: netlink.NsPid(pid),
	}
	if err := netlink.LinkAdd(host); err != nil {
		return fmt.Errorf("create link %s: %w", l.ID(), err)
	}
	if err := configure(&netlink.Handle{}, l.ID(), network.Host()); err != nil {
		return err
	}

	namespace, err := netns.GetFromPid(pid)
	if err != nil {
		return err
	}
	defer func() { _ = namespace.Close() }()
	inside, err := netlink.NewHandleAt(namespace)
	if err != nil {
		return err
	}
	defer inside.Close()
	loopback, err := inside.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := inside.LinkSetUp(loopback); err != nil {
		return err
	}
	if err := configure(inside, insideLink, network.Inside()); err != nil {
		return err
	}
	return routeServices(inside, network)
}

// configure sets the address of the link and brings it up.
func configure(handle *netlink.Handle, name string, address netip.Addr) error {
	link, err := handle.LinkByName(name)
	if err != nil {
		return err
	}
	bits := net.CIDRMask(30, 32)
	if err := handle.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: address.AsSlice(), Mask: bits}}); err != nil {
		return fmt.Errorf("assign %s to link %s: %w", address, name, err)
	}
	return handle.LinkSetUp(link)
}

// routeServices makes cluster IPs routable, so that the kernel passes packets to them to the rules of kube-proxy. There
// is no other route: everything outside of the landscape fails at once.
func routeServices(inside *netlink.Handle, network landscape.Network) error {
	services := netip.MustParsePrefix(landscape.ServiceCIDR)
	return inside.RouteAdd(&netlink.Route{
		Dst: &net.IPNet{IP: services.Addr().AsSlice(), Mask: net.CIDRMask(services.Bits(), 32)},
		Gw:  network.Host().AsSlice(),
	})
}

// removeLink removes the host's end of the link if it exists.
func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) {
		return nil
	}
	if err != nil {
		return err
	}
	// The kernel may remove it first, with the namespace of the other end.
	if err := netlink.LinkDel(link); err != nil && linkExists(name) {
		return err
	}
	return nil
}

func linkExists(name string) bool {
	_, err := netlink.LinkByName(name)
	return err == nil
}

func prefix(network *net.IPNet) netip.Prefix {
	address, _ := netip.AddrFromSlice(network.IP.To4())
	bits, _ := network.Mask.Size()
	return netip.PrefixFrom(address, bits)
}
