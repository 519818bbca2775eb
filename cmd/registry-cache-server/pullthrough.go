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
	"strings"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/larder-project/larder/pkg/cacheserver"
	"github.com/larder-project/larder/pkg/cacheserver/clients"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/credentials"
)

func newPullThroughCommand() *cobra.Command {
	o := defaultOptions()
	command := &cobra.Command{
		Use:   "pull-through UPSTREAM",
		Short: "Serve a cache of one registry on this machine, without a configuration file",
		Long: "Serve a cache of one registry on this machine, without a configuration file, and print what containerd, Docker and\n" +
			"Podman have to be told to use it. Content survives a restart.\n\n" +
			"UPSTREAM is the host of the registry, such as docker.io or registry.example.com:5000, with http:// before it if that\n" +
			"is how the registry is reached.",
		Example: "  registry-cache-server pull-through docker.io\n" +
			"  registry-cache-server pull-through ghcr.io --listen 127.0.0.1:5001 --username john",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one registry to cache, for example: registry-cache-server pull-through docker.io")
			}
			return nil
		},
		SilenceUsage: true, // Errors say what to do, which a list of all flags would hide.
		RunE: func(command *cobra.Command, args []string) error {
			return pullThrough(command.Context(), args[0], *o, standardTerminal(), command.OutOrStdout())
		},
	}
	flags := command.Flags()
	flags.StringVar(&o.listen, "listen", o.listen, "address to serve at, [host]:port")
	flags.StringVar(&o.directory, "directory", o.directory, "where content is kept, each upstream in a directory of its own")
	flags.DurationVar(&o.ttl, "ttl", o.ttl, "how long content is kept after its last use; 0 is for ever")
	flags.IntVar(&o.maxDiskUse, "max-disk-use", o.maxDiskUse, "percentage of the disk in use above which content is evicted that was not used for longest")
	flags.StringVar(&o.username, "username", "", "user at the upstream; the password is asked for on the terminal")
	flags.StringVar(&o.passwordFile, "password-file", "", "file that holds the password instead, such as /dev/stdin")
	return command
}

// pullThrough serves a cache until the process is told to stop.
func pullThrough(ctx context.Context, registry string, o options, terminal terminal, out io.Writer) error {
	description, cache, err := o.describe(registry)
	if err != nil {
		return err
	}
	credential, err := o.credential(ctx, cache.Upstream, terminal)
	if err != nil {
		return err
	}
	return withRemedy(cacheserver.RunLocal(ctx, description, credential, func(address string) {
		// The address of a listener can always be parsed.
		announce(cache, netip.MustParseAddrPort(address), description.Local.Directory, credential, out)
	}))
}

// withRemedy says what to do about an error that has to do with a flag.
func withRemedy(err error) error {
	var failed *net.OpError
	switch listening := errors.As(err, &failed) && failed.Op == "listen"; {
	case listening && errors.Is(failed, syscall.EADDRINUSE):
		return fmt.Errorf("--listen: %w; choose another port, or 0 for any that is free, such as 127.0.0.1:0", failed)
	case listening:
		return fmt.Errorf("--listen: %w", failed)
	case errors.Is(err, index.ErrLocked):
		return fmt.Errorf("--directory: %w; stop that one, or choose another directory", err)
	}
	return err
}

// announce prints what clients have to be told, and says on the log what a person should know.
func announce(cache clients.Cache, bound netip.AddrPort, directory string, credential credentials.Credential, out io.Writer) {
	anonymous := credential == credentials.Credential{}
	cache.Address = bound
	if bound.Addr().IsUnspecified() {
		cache.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), bound.Port())
		logrus.Info("The cache serves on all addresses of this machine; other machines have to use one of those in place of 127.0.0.1")
	}
	if !bound.Addr().IsLoopback() && !anonymous {
		logrus.Warn("The cache serves beyond this machine: whoever reaches it can pull what the user may pull, without a password and without TLS")
	}
	if strings.HasPrefix(cache.RemoteURL, "http://") && !anonymous {
		logrus.Warn("The upstream is reached without TLS: the password can be read on the way")
	}
	_, _ = io.WriteString(out, cache.Guide()) // It is for reading; without a reader the cache serves all the same.
	log := logrus.WithFields(logrus.Fields{"upstream": cache.RemoteURL, "directory": directory})
	if !anonymous {
		log = log.WithField("user", credential.Username)
	}
	log.Info("Caching; Ctrl-C stops it")
}
