// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/larder-project/larder/test/integration/audit"
)

// request is a kind of request.
type request struct {
	// seed is set if the request is one to the seed, and not one to a Shoot.
	seed     bool
	verb     string
	resource string
}

// String returns the request as a line of a table.
func (r request) String() string {
	where := "Shoot"
	if r.seed {
		where = "seed"
	}
	return fmt.Sprintf("%-5s %-6s %s", where, r.verb, r.resource)
}

// writes reports whether the request changes objects, or tries to.
func (r request) writes() bool { return audit.Request{Verb: r.verb}.IsWrite() }

// lease reports whether the request is part of leader election or the heartbeat.
func (r request) lease() bool { return r.resource == "leases" }

// record is a request in the audit log.
type record struct {
	request

	// namespace is that of the Shoot in the seed. It is that of the extension or empty if the request concerns no Shoot.
	namespace string
}

// newRecord tells by the user whether a request is one to the seed or to a Shoot.
func newRecord(r audit.Request) record {
	namespace, inShoot := strings.CutPrefix(r.User, shootUser)
	if !inShoot {
		namespace = r.Namespace
		if r.Resource == "clusters" || r.Resource == "namespaces" {
			namespace = r.Name
		}
	}
	return record{request: request{seed: !inShoot, verb: r.Verb, resource: r.Resource}, namespace: namespace}
}

// counts are numbers of requests.
type counts map[request]int

// sum returns the number of requests that match.
func (c counts) sum(matches func(request) bool) int {
	sum := 0
	for request, number := range c {
		if matches(request) {
			sum += number
		}
	}
	return sum
}

// sorted returns the requests, those to the seed first.
func (c counts) sorted() []request {
	requests := make([]request, 0, len(c))
	for request := range c {
		requests = append(requests, request)
	}
	slices.SortFunc(requests, func(a, b request) int {
		if a.seed != b.seed {
			if a.seed {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.resource, b.resource), cmp.Compare(a.verb, b.verb))
	})
	return requests
}

// medians returns the median of each number. It leaves out what other controllers do now and then meanwhile.
func medians(samples []counts) counts {
	result := counts{}
	for _, sample := range samples {
		for request := range sample {
			result[request] = 0
		}
	}
	for request := range result {
		numbers := make([]int, 0, len(samples))
		for _, sample := range samples {
			numbers = append(numbers, sample[request])
		}
		slices.Sort(numbers)
		if result[request] = numbers[len(numbers)/2]; result[request] == 0 {
			delete(result, request)
		}
	}
	return result
}
