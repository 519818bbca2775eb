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
	type result struct {
		conn net.Conn
		err  error
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		done := make(chan result, 1)
		go func() {
			// Never unlocked: the thread ends with this goroutine, and with it its use of the other namespace.
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
		return fmt.Errorf("enter the network of the landscape: %w", err)
	}
	return nil
}
