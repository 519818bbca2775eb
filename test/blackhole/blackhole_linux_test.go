// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package blackhole_test

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/larder-project/larder/test/blackhole"
)

// quiet is the time after which no response is expected any more.
const quiet = 300 * time.Millisecond

func TestListener(t *testing.T) {
	listener, err := blackhole.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for connection, err := listener.Accept(); err == nil; connection, err = listener.Accept() {
			_, _ = connection.Write([]byte("x"))
			_ = connection.Close()
		}
	}()
	// responds dials, and reads a byte within the time.
	responds := func(limit time.Duration) (dialed, read error) {
		connection, err := net.DialTimeout("tcp", listener.Addr().String(), limit)
		if err != nil {
			return err, nil
		}
		defer connection.Close()
		_ = connection.SetReadDeadline(time.Now().Add(limit))
		_, err = connection.Read(make([]byte, 1))
		return nil, err
	}
	expectResponse := func(when string) {
		t.Helper()
		if dialed, read := responds(10 * time.Second); dialed != nil || read != nil {
			t.Fatalf("%s: dial: %v, read: %v", when, dialed, read)
		}
	}

	expectResponse("at first")

	listener.Hang()
	if dialed, read := responds(quiet); dialed != nil || !errors.Is(read, os.ErrDeadlineExceeded) {
		t.Fatalf("while it hangs: dial: %v, read: %v", dialed, read)
	}
	if err := listener.Resume(); err != nil {
		t.Fatal(err)
	}
	expectResponse("after it hung")

	if err := listener.Drop(); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if dialed, _ := responds(quiet); !errors.As(dialed, &timeout) || !timeout.Timeout() {
		t.Fatalf("while it drops connections: dial: %v", dialed)
	}
	if err := listener.Resume(); err != nil {
		t.Fatal(err)
	}
	expectResponse("after it dropped connections")
}
