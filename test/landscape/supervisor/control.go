// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// Handler serves the supervisor's operations over HTTP, for Client.
func (s *Supervisor) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /processes", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Status(r.Context()))
	})
	operation := func(do func(context.Context, string) error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if err := do(r.Context(), r.PathValue("name")); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		}
	}
	mux.HandleFunc("POST /processes", func(w http.ResponseWriter, r *http.Request) {
		var spec Spec
		err := json.NewDecoder(r.Body).Decode(&spec)
		if err == nil {
			err = s.Add(spec)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("DELETE /processes/{name}", operation(s.Remove))
	mux.HandleFunc("POST /processes/{name}/start", operation(s.Start))
	mux.HandleFunc("POST /processes/{name}/stop", operation(s.Stop))
	return mux
}

// Client controls a supervisor in another process.
type Client struct {
	http *http.Client
}

// NewClient returns a client of the supervisor at a Unix socket.
func NewClient(socket string) *Client {
	return &Client{http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}}
}

// Add calls Supervisor.Add.
func (c *Client) Add(ctx context.Context, spec Spec) error {
	content, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	_, err = c.call(ctx, http.MethodPost, "/processes", content)
	return err
}

// Remove calls Supervisor.Remove.
func (c *Client) Remove(ctx context.Context, name string) error {
	_, err := c.call(ctx, http.MethodDelete, "/processes/"+url.PathEscape(name), nil)
	return err
}

// Start calls Supervisor.Start.
func (c *Client) Start(ctx context.Context, name string) error {
	_, err := c.call(ctx, http.MethodPost, "/processes/"+url.PathEscape(name)+"/start", nil)
	return err
}

// Stop calls Supervisor.Stop.
func (c *Client) Stop(ctx context.Context, name string) error {
	_, err := c.call(ctx, http.MethodPost, "/processes/"+url.PathEscape(name)+"/stop", nil)
	return err
}

// Status calls Supervisor.Status.
func (c *Client) Status(ctx context.Context) ([]Status, error) {
	body, err := c.call(ctx, http.MethodGet, "/processes", nil)
	if err != nil {
		return nil, err
	}
	var statuses []Status
	if err := json.Unmarshal(body, &statuses); err != nil {
		return nil, fmt.Errorf("read status of processes: %w", err)
	}
	return statuses, nil
}

func (c *Client) call(ctx context.Context, method, path string, content []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://supervisor"+path, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(string(bytes.TrimSpace(body)))
	}
	return body, nil
}
