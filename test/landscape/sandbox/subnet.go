// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"net/netip"
)

// subnetBits is the size of a landscape's network: four addresses, of which two are usable.
const subnetBits = 30

// choose returns a subnet of the pools that does not overlap with any used one. The search starts at a position that
// depends on the id.
func choose(pools, used []netip.Prefix, id string) (netip.Prefix, error) {
	var candidates []netip.Prefix
	for _, pool := range pools {
		base := pool.Addr().As4()
		first := binary.BigEndian.Uint32(base[:])
		for i := range uint32(1) << (subnetBits - pool.Bits()) {
			var address [4]byte
			binary.BigEndian.PutUint32(address[:], first+i<<(32-subnetBits))
			candidates = append(candidates, netip.PrefixFrom(netip.AddrFrom4(address), subnetBits))
		}
	}

	hash := fnv.New32a()
	_, _ = hash.Write([]byte(id))
	start := int(hash.Sum32() % uint32(len(candidates))) // #nosec G115 -- a small number.
	for i := range candidates {
		candidate := candidates[(start+i)%len(candidates)]
		if !overlapsAny(candidate, used) {
			return candidate, nil
		}
	}
	return netip.Prefix{}, errors.New("the host uses all networks that a landscape could have")
}

func overlapsAny(candidate netip.Prefix, used []netip.Prefix) bool {
	for _, prefix := range used {
		if candidate.Overlaps(prefix) {
			return true
		}
	}
	return false
}
