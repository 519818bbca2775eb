// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"golang.org/x/sys/unix"
)

const (
	installTimeout = 5 * time.Second
	// removeTimeout is the longest time after which hosts.toml is removed: a pause of two seconds, two checks of 1.2
	// seconds each, and half a second between them, on a busy machine.
	removeTimeout = 10 * time.Second
)

// node is the file system of a node, and what runs the script on it.
type node struct {
	caches, registries string
	script             string
	environment        []string
	output             *gbytes.Buffer
}

func newScriptNode(root string) *node {
	GinkgoHelper()
	n := &node{
		caches: filepath.Join(root, "registry-cache"), registries: filepath.Join(root, "certs.d"), script: filepath.Join(root, "script.sh"),
		output: gbytes.NewBuffer(),
	}
	programs := filepath.Join(root, "bin")
	for _, directory := range []string{n.caches, n.registries, programs} {
		Expect(os.Mkdir(directory, 0o755)).To(Succeed())
	}
	Expect(os.WriteFile(n.script, []byte(hostsScript), 0o755)).To(Succeed())
	Expect(os.WriteFile(filepath.Join(programs, "systemctl"), []byte("#!/bin/bash\n[[ $* == 'is-enabled --quiet "+hostsUnitName+"' && -e "+root+"/enabled ]]\n"), 0o755)).To(Succeed())
	n.environment = append(os.Environ(), "REGISTRY_CACHE_DIRECTORY="+n.caches, "REGISTRIES_DIRECTORY="+n.registries, "PATH="+programs+":"+os.Getenv("PATH"))
	return n
}

// configure writes the files of caches, given upstreams and addresses.
func (n *node) configure(addresses ...string) {
	GinkgoHelper()
	var list strings.Builder
	for i := 0; i < len(addresses); i += 2 {
		host, port, err := net.SplitHostPort(addresses[i+1])
		Expect(err).NotTo(HaveOccurred())
		fmt.Fprintln(&list, addresses[i], host, port)
		n.stage(addresses[i], "server = 'x'\n")
	}
	Expect(os.WriteFile(filepath.Join(n.caches, "caches"), []byte(list.String()), 0o644)).To(Succeed())
}

func (n *node) stage(upstream, content string) {
	GinkgoHelper()
	Expect(os.WriteFile(filepath.Join(n.caches, upstream+".toml"), []byte(hostsMarker+content), 0o644)).To(Succeed())
}

// enable enables or disables the unit.
func (n *node) enable(enabled bool) {
	GinkgoHelper()
	name := filepath.Join(filepath.Dir(n.script), "enabled")
	if !enabled {
		Expect(os.Remove(name)).To(Succeed())
		return
	}
	Expect(os.WriteFile(name, nil, 0o644)).To(Succeed())
}

func (n *node) command(arguments ...string) *exec.Cmd {
	command := exec.Command(n.script, arguments...)
	command.Env, command.Stdout, command.Stderr = n.environment, n.output, n.output
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return command
}

// watch starts the script. The returned function ends it, like systemd, which kills all processes of a unit.
func (n *node) watch() (command *exec.Cmd, end func()) {
	GinkgoHelper()
	watch := n.command("watch")
	Expect(watch.Start()).To(Succeed())
	end = func() {
		_ = syscall.Kill(-watch.Process.Pid, syscall.SIGKILL)
		_ = watch.Wait()
	}
	DeferCleanup(end)
	return watch, end
}

func (n *node) hosts(upstream string) string {
	return filepath.Join(n.registries, upstream, "hosts.toml")
}

// contentOf returns a function that reads a file.
func contentOf(name string) func() (string, error) {
	return func() (string, error) {
		content, err := os.ReadFile(name)
		return string(content), err
	}
}

var _ = Describe("The script of the unit", func() {
	var (
		n *node
		// The directories and files of two upstreams.
		dockerDirectory, docker, quay string
	)

	BeforeEach(func() {
		n = newScriptNode(GinkgoT().TempDir())
		docker, quay = n.hosts("docker.io"), n.hosts("quay.io")
		dockerDirectory = filepath.Dir(docker)
	})
	AfterEach(func() { _, _ = GinkgoWriter.Write(n.output.Contents()) })

	It("installs hosts.toml while the cache responds, and removes its directory while it does not", func() {
		cache := newCache("127.0.0.1:0", respond)
		n.configure("docker.io", cache.address, "registry.example.com:5000", newCache("[::1]:0", respond).address)
		n.watch()
		Eventually(docker, installTimeout).Should(BeARegularFile())
		other := n.hosts("registry.example.com:5000")
		Eventually(other, installTimeout).Should(BeARegularFile())
		Expect(os.ReadFile(docker)).To(BeEquivalentTo(hostsMarker + "server = 'x'\n"))

		cache.mode.Store(refuse)
		Eventually(dockerDirectory, removeTimeout).ShouldNot(BeADirectory(), "an empty directory would hide _default")
		Expect(other).To(BeARegularFile())

		cache.mode.Store(respond)
		Eventually(docker, installTimeout).Should(BeARegularFile())
	})

	It("removes hosts.toml while connections to the cache hang, and keeps those of other caches", func() {
		hole := newBlackHole()
		n.configure("docker.io", hole.address, "quay.io", newCache("127.0.0.1:0", respond).address)
		n.watch()
		Eventually(quay, installTimeout).Should(BeARegularFile())
		Consistently(docker, 2*time.Second).ShouldNot(BeAnExistingFile(), "an accepted connection is no response")

		hole.fill()
		Consistently(quay, 6*time.Second).Should(BeARegularFile())
		Expect(docker).NotTo(BeAnExistingFile())

		hole.serve()
		Eventually(docker, installTimeout).Should(BeARegularFile())
	})

	It("removes hosts.toml while the cache accepts connections and does not respond", func() {
		cache := newCache("127.0.0.1:0", respond)
		n.configure("docker.io", cache.address)
		n.watch()
		Eventually(docker, installTimeout).Should(BeARegularFile())
		cache.mode.Store(hang)
		Eventually(docker, removeTimeout).ShouldNot(BeAnExistingFile())
		cache.mode.Store(respond)
		Eventually(docker, installTimeout).Should(BeARegularFile())
	})

	It("does not wait longer for a cache because of late responses of others", func() {
		cache := newCache("127.0.0.1:0", respond)
		configuration, others := manyCaches(4)
		n.configure(append(configuration, "docker.io", cache.address)...)
		n.watch()
		Eventually(docker, installTimeout).Should(BeARegularFile())
		for i, other := range others {
			other.delay = time.Duration(i+1) * time.Second
			other.mode.Store(respondLate)
		}
		cache.mode.Store(hang)
		// Two checks would take more than ten seconds if each response prolonged them.
		Eventually(docker, removeTimeout-2*time.Second).ShouldNot(BeAnExistingFile())
	})

	It("keeps hosts.toml if one check fails", func() {
		cache := newCache("127.0.0.1:0", respond)
		n.configure("docker.io", cache.address)
		n.watch()
		Eventually(docker, installTimeout).Should(BeARegularFile())
		before, err := os.Stat(docker)
		Expect(err).NotTo(HaveOccurred())

		for range 3 {
			checks := cache.checks.Load()
			cache.mode.Store(refuseOnce)
			Eventually(cache.checks.Load, installTimeout).Should(BeNumerically(">=", checks+3))
		}
		after, err := os.Stat(docker)
		Expect(err).NotTo(HaveOccurred())
		Expect(os.SameFile(before, after)).To(BeTrue())
	})

	It("installs the hosts.toml of a cache without waiting for others", func() {
		hole := newBlackHole()
		hole.fill()
		n.configure("docker.io", hole.address, "quay.io", newCache("127.0.0.1:0", respond).address)
		n.watch()
		Eventually(quay, installTimeout, 10*time.Millisecond).Should(BeARegularFile())
		Expect(hole.address).To(haveConnecting(), "the check of the other cache is under way")
	})

	It("restores hosts.toml after gardener-node-agent has removed the directory", func() {
		n.configure("docker.io", newCache("127.0.0.1:0", respond).address)
		n.watch()
		Eventually(docker, installTimeout).Should(BeARegularFile())
		Expect(os.RemoveAll(dockerDirectory)).To(Succeed())
		Eventually(docker, installTimeout).Should(BeARegularFile())
	})

	It("never touches a file of others, and installs its own when that is gone", func() {
		const other = "# managed by gardener-node-agent\n"
		Expect(os.Mkdir(dockerDirectory, 0o755)).To(Succeed())
		Expect(os.WriteFile(docker, []byte(other), 0o644)).To(Succeed())
		cache := newCache("127.0.0.1:0", respond)
		n.configure("docker.io", cache.address)
		n.enable(true)
		n.watch()
		hosts := contentOf(docker)
		checked := func() {
			GinkgoHelper()
			checks := cache.checks.Load()
			Eventually(cache.checks.Load, removeTimeout).Should(BeNumerically(">=", checks+3))
			Expect(hosts()).To(Equal(other))
		}
		checked()
		cache.mode.Store(refuse)
		checked()
		Expect(n.command("stop").Run()).To(Succeed())
		n.enable(false)
		Expect(n.command("stop").Run()).To(Succeed())
		Expect(hosts()).To(Equal(other))

		cache.mode.Store(respond)
		Expect(os.RemoveAll(dockerDirectory)).To(Succeed())
		Eventually(hosts, installTimeout).Should(HavePrefix(hostsMarker))
	})

	It("keeps hosts.toml over a restart, replaces one that has changed, and removes one without a cache", func() {
		caches := []string{"docker.io", newCache("127.0.0.1:0", respond).address, "quay.io", newCache("127.0.0.1:0", respond).address}
		gone := []string{"gone.example.com", newCache("127.0.0.1:0", respond).address}
		n.configure(append(caches, gone...)...)
		n.enable(true)
		_, end := n.watch()
		for _, hosts := range []string{docker, quay, n.hosts("gone.example.com")} {
			Eventually(hosts, installTimeout).Should(BeARegularFile())
		}
		before, err := os.Stat(docker)
		Expect(err).NotTo(HaveOccurred())

		// Like gardener-node-agent, which removes files after it has restarted the unit.
		n.configure(caches...)
		n.stage("quay.io", "server = 'y'\n")
		end()
		Expect(n.command("stop").Run()).To(Succeed())
		expect := func(g Gomega) {
			after, err := os.Stat(docker)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(os.SameFile(before, after)).To(BeTrue())
			g.Expect(os.ReadFile(quay)).To(BeEquivalentTo(hostsMarker + "server = 'y'\n"))
			g.Expect(filepath.Dir(n.hosts("gone.example.com"))).NotTo(BeADirectory())
		}
		expect(Default)
		n.watch()
		Consistently(expect, 3*time.Second).Should(Succeed())
	})

	It("updates what a run has left that was not stopped", func() {
		cache := newCache("127.0.0.1:0", respond)
		n.configure("docker.io", cache.address, "quay.io", newCache("127.0.0.1:0", respond).address)
		_, end := n.watch()
		Eventually(docker, installTimeout).Should(BeARegularFile())
		Eventually(quay, installTimeout).Should(BeARegularFile())
		end()

		cache.mode.Store(hang)
		n.configure("docker.io", cache.address)
		n.stage("docker.io", "server = 'y'\n")
		n.watch()
		Eventually(quay, installTimeout).ShouldNot(BeAnExistingFile())
		Expect(os.ReadFile(docker)).To(BeEquivalentTo(hostsMarker + "server = 'y'\n"))
		Eventually(docker, removeTimeout).ShouldNot(BeAnExistingFile())
	})

	It("removes all files when the unit is removed", func() {
		n.configure("docker.io", newCache("127.0.0.1:0", respond).address)
		n.enable(true)
		_, end := n.watch()
		Eventually(docker, installTimeout).Should(BeARegularFile())
		end()
		n.enable(false)
		Expect(n.command("stop").Run()).To(Succeed())
		Expect(dockerDirectory).NotTo(BeADirectory())
		Expect(n.command("stop").Run()).To(Succeed(), "without files")
	})

	It("leaves no directory behind if it cannot install hosts.toml, and reports that once", func() {
		cache := newCache("127.0.0.1:0", respond)
		n.configure("docker.io", cache.address)
		Expect(os.Remove(filepath.Join(n.caches, "docker.io.toml"))).To(Succeed())
		n.watch()
		Eventually(cache.checks.Load, removeTimeout).Should(BeNumerically(">=", 3))
		Consistently(dockerDirectory, 3*time.Second).ShouldNot(BeADirectory())
		Expect(strings.Count(string(n.output.Contents()), "Cannot use the cache for docker.io")).To(Equal(1))
		Expect(strings.Count(string(n.output.Contents()), "\n")).To(Equal(1))

		n.stage("docker.io", "server = 'x'\n")
		Eventually(docker, installTimeout).Should(BeARegularFile())
	})

	It("removes what an interrupted installation has left", func() {
		n.configure("docker.io", newCache("127.0.0.1:0", refuse).address)
		Expect(os.Mkdir(dockerDirectory, 0o755)).To(Succeed())
		n.watch()
		Eventually(dockerDirectory, installTimeout).ShouldNot(BeADirectory())
	})

	DescribeTable("ends connections of the node that wait for a cache that does not respond", func(wait func(cache *cache) error, expected error) {
		requireSocketDestroy()
		cache := newCache("127.0.0.1:0", respond)
		n.configure("docker.io", cache.address)
		n.watch()
		Eventually(docker, installTimeout).Should(BeARegularFile())
		result := make(chan error, 1)
		go func() {
			defer GinkgoRecover()
			result <- wait(cache)
		}()
		Consistently(result, 3*time.Second).ShouldNot(Receive(), "while the cache responds to others")
		cache.mode.Store(hang)
		Eventually(result, removeTimeout).Should(Receive(MatchError(expected)))
		Expect(docker).NotTo(BeAnExistingFile())
	},
		Entry("in the middle of content", func(cache *cache) error {
			connection, err := net.Dial("tcp", cache.address)
			Expect(err).NotTo(HaveOccurred())
			defer connection.Close()
			_, err = connection.Write([]byte("GET /content HTTP/1.0\r\n\r\n"))
			Expect(err).NotTo(HaveOccurred())
			buffer := make([]byte, 1<<10)
			for err == nil {
				_, err = connection.Read(buffer)
			}
			return err
		}, unix.ECONNABORTED),
		Entry("for a response", func(cache *cache) error {
			connection, err := net.Dial("tcp", cache.address)
			Expect(err).NotTo(HaveOccurred())
			defer connection.Close()
			_, err = connection.Read(make([]byte, 1))
			return err
		}, unix.ECONNABORTED),
	)

	It("ends attempts to connect to a cache that does not accept connections", func() {
		requireSocketDestroy()
		hole := newBlackHole()
		hole.fill()
		n.configure("docker.io", hole.address)
		n.watch()
		_, err := net.DialTimeout("tcp", hole.address, removeTimeout)
		Expect(err).To(MatchError(unix.ECONNABORTED))
	})

	It("keeps a connection to a cache that does not respond to checks while it receives content", func() {
		requireSocketDestroy()
		cache := newCache("127.0.0.1:0", hang)
		n.configure("docker.io", cache.address)
		connection, err := net.Dial("tcp", cache.address)
		Expect(err).NotTo(HaveOccurred())
		defer connection.Close()
		_, err = connection.Write([]byte("GET /slow HTTP/1.0\r\n\r\n"))
		Expect(err).NotTo(HaveOccurred())
		n.watch()
		Consistently(func() error {
			_, err := connection.Read(make([]byte, 1<<10))
			return err
		}, 8*time.Second).Should(Succeed())
	})

	It("checks each cache at most every two seconds while all respond", func() {
		const span = 10 * time.Second
		configuration, caches := manyCaches(20)
		n.configure(configuration...)
		n.watch()
		last := n.hosts("registry-19.example.com")
		Eventually(last, 2*installTimeout).Should(BeARegularFile())
		for _, cache := range caches {
			cache.checks.Store(0)
		}
		time.Sleep(span)
		for _, cache := range caches {
			Expect(cache.checks.Load()).To(And(BeNumerically(">=", 1), BeNumerically("<=", 6)))
		}
	})
})
