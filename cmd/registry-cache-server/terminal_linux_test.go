// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"
	"golang.org/x/sys/unix"

	"github.com/larder-project/larder/test/upstreamsim"
)

// pseudoTerminal is a terminal whose keyboard and screen are files.
type pseudoTerminal struct {
	keyboard io.Writer
	screen   *gbytes.Buffer
	end      *os.File
}

func newPseudoTerminal() pseudoTerminal {
	GinkgoHelper()
	controller, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		Skip("no pseudo terminals: " + err.Error())
	}
	DeferCleanup(controller.Close)
	Expect(unix.IoctlSetPointerInt(int(controller.Fd()), unix.TIOCSPTLCK, 0)).To(Succeed())
	number, err := unix.IoctlGetInt(int(controller.Fd()), unix.TIOCGPTN)
	Expect(err).NotTo(HaveOccurred())
	end, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		Skip("no pseudo terminals: " + err.Error())
	}
	DeferCleanup(end.Close)
	screen := gbytes.NewBuffer()
	go func() { _, _ = io.Copy(screen, controller) }()
	return pseudoTerminal{keyboard: controller, screen: screen, end: end}
}

func (t pseudoTerminal) echoes() bool {
	GinkgoHelper()
	state, err := unix.IoctlGetTermios(int(t.end.Fd()), unix.TCGETS)
	Expect(err).NotTo(HaveOccurred())
	return state.Lflag&unix.ECHO != 0
}

var _ = Describe("pull-through on a terminal", func() {
	var (
		terminal pseudoTerminal
		registry *upstreamsim.Registry
		session  *gexec.Session
	)

	BeforeEach(func() {
		terminal = newPseudoTerminal()
		var err error
		registry, err = upstreamsim.Start(upstreamsim.Options{Authentication: upstreamsim.Basic, Username: username, Password: password})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(registry.Close)
		command := exec.Command(binary, "pull-through", registry.URL(), "--listen", "127.0.0.1:0", "--directory", GinkgoT().TempDir(), "--username", username)
		command.Stdin = terminal.end
		command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		session, err = gexec.Start(command, GinkgoWriter, GinkgoWriter)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() { session.Kill().Wait(patience) })
		Eventually(session.Err, patience).Should(gbytes.Say("Password of robot at 127.0.0.1:"))
		Eventually(terminal.echoes, patience).Should(BeFalse())
	})

	It("reads the password without echoing it", func() {
		_, err := io.WriteString(terminal.keyboard, password+"\n")
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() string { return string(session.Err.Contents()) }, patience).Should(And(
			ContainSubstring("Upstream accepted credential"),
			ContainSubstring("Caching; stop with Ctrl-C"), // Before that, a signal kills the process.
		))
		Expect(terminal.echoes()).To(BeTrue())
		_, err = io.WriteString(terminal.keyboard, "\x03") // Ctrl-C
		Expect(err).NotTo(HaveOccurred())
		Eventually(session, patience).Should(gexec.Exit(0))
		Eventually(terminal.screen, patience).Should(gbytes.Say(`\^C`))
		Expect(terminal.screen.Contents()).NotTo(ContainSubstring("s3cret"))
		Expect(session.Err.Contents()).NotTo(ContainSubstring("s3cret"))
	})

	It("restores the echo when interrupted", func() {
		_, err := io.WriteString(terminal.keyboard, "s3c\x03")
		Expect(err).NotTo(HaveOccurred())
		Eventually(session, patience).Should(gexec.Exit(1))
		Expect(session.Err.Contents()).To(ContainSubstring("the password prompt was interrupted"))
		Expect(terminal.echoes()).To(BeTrue())
	})
})
