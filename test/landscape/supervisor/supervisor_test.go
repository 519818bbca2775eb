// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/ports"
)

var _ = Describe("Supervisor", func() {
	var (
		ctx    context.Context
		dir    string
		port   *ports.Reservation
		client *Client
	)

	// supervise returns a client of a supervisor of shell scripts.
	supervise := func(scripts map[string]Spec) *Client {
		specs := make([]Spec, 0, len(scripts))
		for name, spec := range scripts {
			spec.Name = name
			spec.Path, spec.Args = "/bin/sh", append([]string{"-c"}, spec.Args...)
			specs = append(specs, spec)
		}
		s := New(specs, dir)
		reaping, stop := context.WithCancel(context.Background())
		reaped := make(chan struct{})
		go func() { defer close(reaped); s.Reap(reaping) }()
		DeferCleanup(func() {
			for _, spec := range specs {
				Expect(s.Stop(context.Background(), spec.Name)).To(Succeed())
			}
			stop()
			<-reaped
		})

		socket := filepath.Join(dir, "socket")
		listener, err := net.Listen("unix", socket)
		Expect(err).NotTo(HaveOccurred())
		server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: time.Minute}
		go func() { _ = server.Serve(listener) }()
		DeferCleanup(server.Close)
		return NewClient(socket)
	}
	status := func() Status {
		statuses, err := client.Status(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(statuses).To(HaveLen(1))
		return statuses[0]
	}

	BeforeEach(func() {
		ctx = GinkgoT().Context()
		dir = GinkgoT().TempDir()
		var err error
		port, err = ports.Reserve()
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(port.Close)
	})

	It("starts and stops a process", func() {
		client = supervise(map[string]Spec{"sleeper": {Args: []string{"echo hello; exec sleep 600"}}})
		Expect(status().State).To(Equal(Stopped))

		Expect(client.Start(ctx, "sleeper")).To(Succeed())
		running := status()
		Expect(running.State).To(Equal(Ready))
		Expect(running.PID).NotTo(BeZero())
		Eventually(func() ([]byte, error) { return os.ReadFile(filepath.Join(dir, "sleeper.log")) }).Should(BeEquivalentTo("hello\n"))

		Expect(client.Start(ctx, "sleeper")).To(Succeed())
		Expect(status().PID).To(Equal(running.PID), "a running process is left alone")

		Expect(client.Stop(ctx, "sleeper")).To(Succeed())
		Expect(status().State).To(Equal(Stopped))
		Expect(syscall.Kill(running.PID, 0)).To(MatchError(syscall.ESRCH))
	})

	It("waits until the process is ready", func() {
		client = supervise(map[string]Spec{"slow": {Args: []string{"exec sleep 600"}, Ready: "tcp://" + port.Address()}})

		started := make(chan error)
		go func() { started <- client.Start(ctx, "slow") }()
		Consistently(started, 300*time.Millisecond).ShouldNot(Receive())
		Expect(status().State).To(Equal(Starting))

		listener, err := port.Listen()
		Expect(err).NotTo(HaveOccurred())
		Eventually(started).Should(Receive(BeNil()))
		Expect(status().State).To(Equal(Ready))

		Expect(listener.Close()).To(Succeed())
		Expect(status().State).To(Equal(Unready))
	})

	It("returns the end of the log of a process that fails to start", func() {
		client = supervise(map[string]Spec{"broken": {Args: []string{"echo no such flag; exit 3"}, Ready: "tcp://" + port.Address()}})
		Expect(client.Start(ctx, "broken")).To(MatchError(And(
			ContainSubstring("broken ended (exit code 3)"), ContainSubstring("no such flag"))))
		Expect(status().State).To(Equal(Failed))
		Consistently(status, restartDelay*3/2).Should(HaveField("Restarts", 0), "a process that has never been ready is not restarted")
	})

	It("restarts a process after a failure", func() {
		client = supervise(map[string]Spec{"sleeper": {Args: []string{"exec sleep 600"}}})
		Expect(client.Start(ctx, "sleeper")).To(Succeed())
		before := status().PID
		Expect(syscall.Kill(before, syscall.SIGKILL)).To(Succeed())

		Eventually(status).Should(And(HaveField("State", Ready), HaveField("Restarts", 1)))
		Expect(status().PID).NotTo(Equal(before))
		Expect(status().LastExit).To(Equal("signal: killed"))
	})

	It("supervises further processes until they are removed", func() {
		client = supervise(nil)
		sleeper := Spec{Name: "sleeper", Path: "/bin/sh", Args: []string{"-c", "exec sleep 600"}}
		Expect(client.Add(ctx, sleeper)).To(Succeed())
		Expect(status().State).To(Equal(Stopped))
		Expect(client.Start(ctx, "sleeper")).To(Succeed())
		pid := status().PID
		Expect(client.Add(ctx, sleeper)).To(MatchError(ContainSubstring("running")))

		Expect(client.Remove(ctx, "sleeper")).To(Succeed())
		Expect(client.Status(ctx)).To(BeEmpty())
		Expect(syscall.Kill(pid, 0)).To(MatchError(syscall.ESRCH))

		Expect(client.Add(ctx, sleeper)).To(Succeed())
		sleeper.Args[1], sleeper.Ready = "exit 3", "tcp://"+port.Address()
		Expect(client.Add(ctx, sleeper)).To(Succeed(), "a stopped process is replaced")
		Expect(client.Start(ctx, "sleeper")).To(MatchError(ContainSubstring("ended")))
		Expect(client.Remove(ctx, "sleeper")).To(Succeed())
	})

	It("rejects unknown processes", func() {
		client = supervise(map[string]Spec{"sleeper": {Args: []string{"exec sleep 600"}}})
		Expect(client.Start(ctx, "other")).To(MatchError(ContainSubstring(`unknown process "other"`)))
	})
})
