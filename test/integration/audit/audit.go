// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package audit reads the requests to an API server from its audit log, including those that change nothing.
package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// Log is the audit log of an API server. The API server writes it before it responds.
type Log struct {
	file string
	// position is that of the next read.
	position int64
}

// Request is a request to an API server. Watches are left out.
type Request struct {
	User string
	Verb string
	// Resource contains the subresource, as in pods/proxy.
	Resource  string
	Namespace string
	Name      string
}

// IsWrite reports whether the request changes objects, or tries to.
func (r Request) IsWrite() bool {
	return slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, r.Verb)
}

// Configure makes an API server that is about to start log the requests of the given users and groups.
func Configure(server *envtest.APIServer, directory string, users, groups []string) (*Log, error) {
	type rule struct {
		Level      string   `json:"level"`
		Users      []string `json:"users,omitempty"`
		UserGroups []string `json:"userGroups,omitempty"`
	}
	var rules []rule
	if len(users) > 0 {
		rules = append(rules, rule{Level: "Metadata", Users: users})
	}
	if len(groups) > 0 {
		rules = append(rules, rule{Level: "Metadata", UserGroups: groups})
	}
	policy, err := json.Marshal(map[string]any{
		"apiVersion": "audit.k8s.io/v1", "kind": "Policy",
		"omitStages": []string{"RequestReceived", "ResponseStarted"},
		"rules":      append(rules, rule{Level: "None"}),
	})
	if err != nil {
		return nil, err
	}
	policyFile := filepath.Join(directory, "audit-policy.json")
	if err := os.WriteFile(policyFile, policy, 0o600); err != nil {
		return nil, err
	}
	log := &Log{file: filepath.Join(directory, "audit.log")}
	server.Configure().
		Set("audit-policy-file", policyFile).
		Set("audit-log-path", log.file).
		Set("audit-log-maxsize", "10000") // MiB; a rotation would hide requests.
	return log, nil
}

// Read returns the requests that have ended since the last call.
func (l *Log) Read() ([]Request, error) {
	file, err := os.Open(l.file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Seek(l.position, io.SeekStart); err != nil {
		return nil, err
	}
	var requests []Request
	reader := bufio.NewReaderSize(file, 1<<20)
	for {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return requests, nil // The next call reads an incomplete line.
		}
		if err != nil {
			return nil, err
		}
		l.position += int64(len(line))
		request, err := parse(line)
		if err != nil {
			return nil, fmt.Errorf("parse audit log: %w", err)
		}
		if request != nil && request.Verb != "watch" {
			requests = append(requests, *request)
		}
	}
}

// parse returns the request of an event, nil if it is not one for a resource.
func parse(line []byte) (*Request, error) {
	var event struct {
		Verb      string
		User      struct{ Username string }
		ObjectRef *struct{ Resource, Subresource, Namespace, Name string }
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return nil, err
	}
	if event.ObjectRef == nil {
		return nil, nil
	}
	resource := event.ObjectRef.Resource
	if event.ObjectRef.Subresource != "" {
		resource += "/" + event.ObjectRef.Subresource
	}
	return &Request{
		User: event.User.Username, Verb: event.Verb, Resource: resource,
		Namespace: event.ObjectRef.Namespace, Name: event.ObjectRef.Name,
	}, nil
}
