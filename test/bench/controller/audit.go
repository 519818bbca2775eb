// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// auditPolicy records the requests of the extension.
func auditPolicy(seedUser string) string {
	return fmt.Sprintf(`apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- {level: Metadata, users: [%q]}
- {level: Metadata, userGroups: [%q]}
- {level: None}
`, seedUser, shootGroup)
}

// auditLog is the audit log of an API server. It is written before a response is sent.
type auditLog struct {
	file     string
	seedUser string
	// position is that of the next read.
	position int64
}

// request is a kind of request.
type request struct {
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

// writes reports whether the request is one that changes objects, even if it changes nothing.
func (r request) writes() bool {
	return slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, r.verb)
}

// lease reports whether the request is part of leader election or the heartbeat.
func (r request) lease() bool { return r.resource == "leases" }

// record is a request in the log.
type record struct {
	request

	// namespace is that of the Shoot in the seed; it is empty if the request belongs to none.
	namespace string
	at        time.Time
	code      int
}

// read returns the requests since the last call.
func (l *auditLog) read() ([]record, error) {
	file, err := os.Open(l.file)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := file.Seek(l.position, 0); err != nil {
		return nil, err
	}
	var records []record
	reader := bufio.NewReaderSize(file, 1<<20)
	for {
		line, err := reader.ReadBytes('\n')
		if err != nil {
			return records, nil // The last line is incomplete; the next call reads it.
		}
		l.position += int64(len(line))
		record, ok, err := l.parse(line)
		if err != nil {
			return nil, fmt.Errorf("parse audit log: %w", err)
		}
		if ok {
			records = append(records, record)
		}
	}
}

func (l *auditLog) parse(line []byte) (record, bool, error) {
	var event struct {
		Verb string `json:"verb"`
		User struct {
			Username string `json:"username"`
		} `json:"user"`
		ObjectRef *struct {
			Resource    string `json:"resource"`
			Subresource string `json:"subresource"`
			Namespace   string `json:"namespace"`
			Name        string `json:"name"`
		} `json:"objectRef"`
		ResponseStatus struct {
			Code int `json:"code"`
		} `json:"responseStatus"`
		RequestReceivedTimestamp time.Time `json:"requestReceivedTimestamp"`
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return record{}, false, err
	}
	shoot, inShoot := strings.CutPrefix(event.User.Username, shootUser)
	if event.Verb == "watch" || event.ObjectRef == nil || !inShoot && event.User.Username != l.seedUser {
		return record{}, false, nil
	}
	resource := event.ObjectRef.Resource
	if event.ObjectRef.Subresource != "" {
		resource += "/" + event.ObjectRef.Subresource
	}
	r := record{
		request:   request{seed: !inShoot, verb: event.Verb, resource: resource},
		namespace: shoot,
		at:        event.RequestReceivedTimestamp,
		code:      event.ResponseStatus.Code,
	}
	if r.seed {
		r.namespace = event.ObjectRef.Namespace
		if resource == "clusters" || resource == "namespaces" {
			r.namespace = event.ObjectRef.Name
		}
	}
	return r, true, nil
}

// counts are numbers of requests.
type counts map[request]int

// count returns the requests that match.
func count(records []record, matches func(record) bool) counts {
	result := counts{}
	for _, record := range records {
		if matches(record) {
			result[record.request]++
		}
	}
	return result
}

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

// medians returns the median of each number.
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
