// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/larder-project/larder/test/upstreamsim"
)

// layerSize and hangAfter make a cache hang in the middle of a layer.
const (
	layerSize = 256 << 10
	hangAfter = 64 << 10
)

// fault is a failure of a cache.
type fault struct {
	name string // of the flag
	what string // the cache does
	// detected is true if nodes stop using a cache with the fault: it does not respond.
	detected bool
	// waits is true if a pull under way waits until they do.
	waits bool
	begin func(*cache) error
}

var faults = []fault{
	{name: "refused", what: "refuses connections", detected: true, begin: func(c *cache) error {
		c.registry.Refuse()
		return nil
	}},
	{name: "dropped", what: "drops packets", detected: true, begin: func(c *cache) error { return c.listener().Drop() }},
	// Whoever has resolved a tag has read hosts.toml, and tries the cache for all that follows.
	{name: "dropped-later", what: "drops packets once the tag is resolved", detected: true, begin: func(c *cache) error {
		c.drop = sync.OnceValue(c.listener().Drop)
		c.registry.Wrap(func(registry http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = c.drop()
				registry.ServeHTTP(w, r)
			})
		})
		return nil
	}},
	{name: "silent", what: "accepts connections and does not respond", detected: true, waits: true, begin: func(c *cache) error {
		c.listener().Hang()
		return nil
	}},
	{name: "body", what: "hangs in the middle of a layer", begin: func(c *cache) error {
		c.registry.Misbehave(upstreamsim.Faults{HangAfter: hangAfter, Only: []upstreamsim.Kind{upstreamsim.BlobGet}})
		return nil
	}},
}

func faultNames() []string {
	names := make([]string, len(faults))
	for i, fault := range faults {
		names[i] = fault.name
	}
	return names
}

func selectFaults(names string) ([]fault, error) {
	var selected []fault
	for name := range strings.SplitSeq(names, ",") {
		found := false
		for _, fault := range faults {
			if fault.name == name {
				selected, found = append(selected, fault), true
			}
		}
		if !found {
			return nil, fmt.Errorf("unknown fault %q, use some of %s", name, strings.Join(faultNames(), ", "))
		}
	}
	return selected, nil
}
