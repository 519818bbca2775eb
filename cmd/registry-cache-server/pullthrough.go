// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/signal"
	"strings"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/larder-project/larder/pkg/cacheserver"
	"github.com/larder-project/larder/pkg/cacheserver/clients"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/status/page"
	"github.com/larder-project/larder/pkg/credentials"
)

func newPullThroughCommand() *cobra.Command {
	o := defaultOptions()
	command := &cobra.Command{
		Use:   "pull-through UPSTREAM",
		Short: "Serve a cache of one registry on this machine without a configuration file",
		Long: "Serve a cache of one registry on this machine without a configuration file, and print the settings with which\n" +
			"containerd, Docker and Podman pull through it. Content survives a restart.\n\n" +
			"UPSTREAM is the host of the registry, such as docker.io or registry.example.com:5000. A registry without TLS needs\n" +
			"the prefix http://.",
		Example: "  registry-cache-server pull-through docker.io\n" +
			"  registry-cache-server pull-through ghcr.io --listen 127.0.0.1:5001 --username john",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one registry to cache, for example: registry-cache-server pull-through docker.io")
			}
			return nil
		},
		SilenceUsage: true, // Errors name the remedy; a list of all flags would hide it.
		RunE: func(command *cobra.Command, args []string) error {
			return pullThrough(command.Context(), args[0], *o, standardTerminal(), command.OutOrStdout())
		},
	}
	flags := command.Flags()
	flags.StringVar(&o.listen, "listen", o.listen, "address to serve at, [host]:port")
	flags.StringVar(&o.statusAddress, "status-address", "", "address to serve the status page and the metrics at, [host]:port; empty disables them")
	flags.StringVar(&o.directory, "directory", o.directory, "parent directory of the caches; each upstream and user has its own directory")
	flags.DurationVar(&o.ttl, "ttl", o.ttl, "how long to keep content after its last use; 0 keeps it forever")
	flags.IntVar(&o.maxDiskUse, "max-disk-use", o.maxDiskUse, "evict the least recently used content while the disk is fuller than this percentage")
	flags.StringVar(&o.username, "username", "", "user at the upstream; the terminal asks for the password without echoing it")
	flags.StringVar(&o.passwordFile, "password-file", "", "file to read the password from instead of asking for it; /dev/stdin reads from a pipe")
	return command
}

// pullThrough serves a cache until the process receives a signal.
func pullThrough(ctx context.Context, registry string, o options, terminal terminal, out io.Writer) error {
	description, cache, err := o.describe(registry)
	if err != nil {
		return err
	}
	credential, err := o.credential(ctx, cache.Upstream, terminal)
	if err != nil {
		return err
	}
	return withRemedy(cacheserver.RunLocal(ctx, description, credential, func(server *cacheserver.Server) {
		// The address of a listener is always valid.
		announce(cache, netip.MustParseAddrPort(server.Addr()), description.Local.Directory, credential, out)
		if address := server.DebugAddr(); address != "" {
			announceStatus(netip.MustParseAddrPort(address))
		}
	}))
}

// withRemedy adds the flag that solves the problem to an error.
func withRemedy(err error) error {
	var failed *net.OpError
	flag := "--listen"
	if errors.Is(err, cacheserver.ErrDebugAddress) {
		flag = "--status-address"
	}
	switch listening := errors.As(err, &failed) && failed.Op == "listen"; {
	case listening && errors.Is(failed, syscall.EADDRINUSE):
		return fmt.Errorf("%s: %w; choose another port, or a free one with 127.0.0.1:0", flag, failed)
	case listening:
		return fmt.Errorf("%s: %w", flag, failed)
	case errors.Is(err, index.ErrLocked):
		return fmt.Errorf("--directory: %w; stop that process or choose another directory", err)
	}
	return err
}

// announce prints the settings for clients, logs where the cache is, and warns about what it exposes.
func announce(cache clients.Cache, bound netip.AddrPort, directory string, credential credentials.Credential, out io.Writer) {
	anonymous := credential == credentials.Credential{}
	cache.Address = reachable(bound)
	if bound.Addr().IsUnspecified() {
		logrus.Info("Listening on all addresses; on other machines, replace 127.0.0.1 with an address of this machine")
	}
	if !bound.Addr().IsLoopback() && !anonymous {
		logrus.Warn("Listening beyond this machine: any client that can connect can pull every image that the user can pull, without a password or TLS")
	}
	if strings.HasPrefix(cache.RemoteURL, "http://") && !anonymous {
		logrus.Warn("Connecting to the upstream without TLS: the password is sent unencrypted")
	}
	// A closed standard output must not kill the server.
	signal.Ignore(syscall.SIGPIPE)
	_, _ = io.WriteString(out, cache.Guide())
	log := logrus.WithFields(logrus.Fields{"upstream": cache.RemoteURL, "directory": directory})
	if !anonymous {
		log = log.WithField("user", credential.Username)
	}
	log.Info("Caching; stop with Ctrl-C")
}

// announceStatus logs where the status page is, and warns if others can see it.
func announceStatus(bound netip.AddrPort) {
	if !bound.Addr().IsLoopback() {
		logrus.Warn("Showing the status beyond this machine: any client that can connect can see the names of the pulled images")
	}
	logrus.WithField("url", "http://"+reachable(bound).String()+page.Path).Info("Showing the status")
}

// reachable returns an address at which this machine can connect to a bound one.
func reachable(bound netip.AddrPort) netip.AddrPort {
	if bound.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), bound.Port())
	}
	return bound
}
