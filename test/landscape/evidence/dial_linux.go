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

// Dialer connects from inside of a landscape, where cluster IPs are reached, to an IP address.
func Dialer(l *landscape.Landscape) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	pid, err := l.FirstProcess()
	if err != nil {
		return nil, err
	}
	type result struct {
		conn net.Conn
		err  error
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		done := make(chan result, 1)
		go func() {
			// Never unlocked: the thread ends with this goroutine, and takes the foreign namespace with it.
			runtime.LockOSThread()
			if err := enterNetwork(pid); err != nil {
				done <- result{err: err}
				return
			}
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			done <- result{conn, err}
		}()
		r := <-done
		return r.conn, r.err
	}, nil
}

func enterNetwork(pid int) error {
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer namespace.Close()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("could not enter the network of the landscape: %w", err)
	}
	return nil
}
