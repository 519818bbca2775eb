// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/clients"
	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/upstream"
)

// options are the flags of the command pull-through.
type options struct {
	listen        string
	statusAddress string
	directory     string
	ttl           time.Duration
	maxDiskUse    int
	username      string
	passwordFile  string
}

func defaultOptions() *options {
	o := &options{listen: "127.0.0.1:5000", ttl: pullthrough.DefaultTTL, maxDiskUse: 90}
	if directory, err := os.UserCacheDir(); err == nil {
		o.directory = filepath.Join(directory, "registry-cache-server")
	}
	return o
}

// describe returns the configuration of the cache of a registry, and the cache as clients see it. The latter still
// lacks the address, which is known only when the server listens.
func (o options) describe(registry string) (config.Config, clients.Cache, error) {
	parsed, remoteURL, err := upstream.Parse(registry)
	if err == nil {
		err = o.validate()
	} else {
		err = fmt.Errorf("UPSTREAM %w", err)
	}
	if err != nil {
		return config.Config{}, clients.Cache{}, err
	}
	name := parsed.LabelValue()
	if o.username != "" {
		// A cache without the user must not serve content that only the user could pull.
		name = url.PathEscape(o.username) + "@" + name
	}
	directory, err := filepath.Abs(filepath.Join(o.directory, name))
	if err != nil {
		return config.Config{}, clients.Cache{}, fmt.Errorf("--directory: %w", err)
	}
	return config.Config{
		RemoteURL: remoteURL,
		TTL:       o.ttl,
		Local: &config.Local{
			Address: o.listen, StatusAddress: o.statusAddress, Directory: directory, MaxDiskUse: o.maxDiskUse,
		},
	}, clients.Cache{Upstream: parsed, RemoteURL: remoteURL}, nil
}

func (o options) validate() error {
	switch {
	case !isAddress(o.listen):
		return fmt.Errorf("--listen must be [host]:port, such as 127.0.0.1:5001, not %q", o.listen)
	case o.statusAddress != "" && !isAddress(o.statusAddress):
		return fmt.Errorf("--status-address must be [host]:port, such as 127.0.0.1:5001, not %q", o.statusAddress)
	case o.directory == "":
		return errors.New("--directory must be set, since the environment defines no cache directory")
	case o.ttl < 0:
		return fmt.Errorf("--ttl must not be negative (%s); 0 keeps content forever", o.ttl)
	case o.maxDiskUse < 1 || o.maxDiskUse > 100:
		return fmt.Errorf("--max-disk-use must be a percentage from 1 to 100, not %d", o.maxDiskUse)
	case o.passwordFile != "" && o.username == "":
		return errors.New("--password-file needs --username")
	}
	return nil
}

func isAddress(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	return err == nil
}

// credential returns the credential for the upstream; the zero value means anonymous access. The password comes from a
// file or the terminal, never from the command line, which other users of the machine can read.
func (o options) credential(ctx context.Context, registry upstream.Upstream, terminal terminal) (credentials.Credential, error) {
	if o.username == "" {
		return credentials.Credential{}, nil
	}
	if err := credentials.ValidateUsername(o.username); err != nil {
		return credentials.Credential{}, fmt.Errorf("--username: %w", err)
	}
	var (
		password string
		err      error
	)
	switch {
	case o.passwordFile != "":
		password, err = readPassword(o.passwordFile)
	case terminal.present():
		password, err = terminal.ask(ctx, fmt.Sprintf("Password of %s at %s: ", o.username, registry))
	default:
		err = errors.New("--username needs --password-file, since there is no terminal to ask for the password")
	}
	if err == nil && password == "" {
		err = errors.New("the password is empty")
	}
	if err != nil {
		return credentials.Credential{}, err
	}
	return credentials.Credential{Username: o.username, Password: password}, nil
}
