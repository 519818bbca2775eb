// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/larder-project/larder/test/landscape"
)

// Dialer returns a dialer for IP addresses, including cluster IPs, inside of a landscape.
func Dialer(l *landscape.Landscape) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	pid, err := l.FirstProcess()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return inNetwork(networkOf(pid), func() (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, network, address) })
	}, nil
}

// Listener returns a function like net.Listen for addresses inside of a landscape.
func Listener(l *landscape.Landscape) (func(network, address string) (net.Listener, error), error) {
	pid, err := l.FirstProcess()
	if err != nil {
		return nil, err
	}
	return func(network, address string) (net.Listener, error) {
		return inNetwork(networkOf(pid), func() (net.Listener, error) { return net.Listen(network, address) })
	}, nil
}

// networkOf returns the file of the network namespace of a process.
func networkOf(pid int) string { return fmt.Sprintf("/proc/%d/ns/net", pid) }

// inNetwork opens a socket in a network, which is given by the file of its namespace. The socket stays there.
func inNetwork[S any](network string, open func() (S, error)) (S, error) {
	type result struct {
		socket S
		err    error
	}
	done := make(chan result, 1)
	go func() {
		// Never unlocked: the thread ends with this goroutine, and with it its use of the other namespace.
		runtime.LockOSThread()
		if err := enterNetwork(network); err != nil {
			done <- result{err: err}
			return
		}
		socket, err := open()
		done <- result{socket, err}
	}()
	r := <-done
	return r.socket, r.err
}

func enterNetwork(network string) error {
	namespace, err := os.Open(network) // #nosec G304 -- a file of /proc.
	if err != nil {
		return err
	}
	defer namespace.Close()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network of the landscape: %w", err)
	}
	return nil
}
