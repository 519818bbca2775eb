// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim

import (
	"maps"
	"sync"
)

// Counters counts the requests to a simulated registry.
type Counters struct {
	// Requests counts by kind, including rejected requests.
	Requests map[Kind]int
	// Objects counts the authorized GET requests for each manifest and blob, by path.
	Objects map[string]int
	// Bytes counts the bytes sent for manifests and blobs.
	Bytes int64
	// ForeignAuthorizations counts the requests to the foreign host (see Faults.RedirectBlobs and Faults.ForeignRealm)
	// that carried an Authorization header or a client certificate.
	ForeignAuthorizations int
	// ForeignRequests counts all requests to the foreign host.
	ForeignRequests int
}

// Total returns the number of requests of the given kinds, by default of all kinds.
func (c Counters) Total(kinds ...Kind) int {
	if len(kinds) == 0 {
		for kind := range c.Requests {
			kinds = append(kinds, kind)
		}
	}
	total := 0
	for _, kind := range kinds {
		total += c.Requests[kind]
	}
	return total
}

// MostRequested returns the number of requests for the most requested object.
func (c Counters) MostRequested() int {
	most := 0
	for _, n := range c.Objects {
		most = max(most, n)
	}
	return most
}

type counting struct {
	mu       sync.Mutex
	counters Counters
}

func (c *counting) update(f func(*Counters)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counters.Requests == nil {
		c.counters.Requests = map[Kind]int{}
		c.counters.Objects = map[string]int{}
	}
	f(&c.counters)
}

func (c *counting) snapshot() Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	copied := c.counters
	copied.Requests = maps.Clone(c.counters.Requests)
	copied.Objects = maps.Clone(c.counters.Objects)
	return copied
}

func (c *counting) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counters = Counters{}
}
