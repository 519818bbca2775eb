// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"

	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

const (
	username   = "robot"
	password   = "s3cret: #%*"
	repository = "team/app"

	// patience is a timeout for busy machines.
	patience = "60s"
)

// start runs the server with environment variables that it must ignore.
func start(directory string, arguments ...string) *gexec.Session {
	GinkgoHelper()
	command := exec.Command(binary, arguments...)
	command.Env = append(os.Environ(), "XDG_CACHE_HOME="+directory, "GORACE=halt_on_error=1",
		"REGISTRY_AUTH_FILE=/run/containers/auth.json", "REGISTRY_HTTP_ADDR=192.0.2.1:1")
	session, err := gexec.Start(command, GinkgoWriter, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { session.Kill().Wait(patience) })
	return session
}

// found returns the first group of a pattern in the output of a process.
func found(session *gexec.Session, pattern string) string {
	GinkgoHelper()
	matches := regexp.MustCompile(pattern).FindSubmatch(session.Out.Contents())
	Expect(matches).To(HaveLen(2), "%s in %s", pattern, session.Out.Contents())
	return string(matches[1])
}

var _ = Describe("pull-through", func() {
	var (
		directory string
		registry  *upstreamsim.Registry
		image     upstreamsim.Image
		index     upstreamsim.Content
		arguments []string
	)

	BeforeEach(func() {
		directory = GinkgoT().TempDir()
		var err error
		registry, err = upstreamsim.Start(upstreamsim.Options{Authentication: upstreamsim.Bearer, Username: username, Password: password})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(registry.Close)
		image = upstreamsim.RandomImage(1, 2, 1<<20)
		index = upstreamsim.NewIndex(image)
		registry.Push(repository, "v1", image)
		registry.PushManifest(repository, "latest", index)

		file := filepath.Join(GinkgoT().TempDir(), "password")
		Expect(os.WriteFile(file, []byte(password+"\n"), 0o600)).To(Succeed())
		arguments = []string{"pull-through", registry.URL(), "--listen", "127.0.0.1:0", "--username", username, "--password-file", file}
	})

	// serving waits until the cache serves, and returns a client of it.
	serving := func(session *gexec.Session) *pull.Client {
		GinkgoHelper()
		Eventually(session.Out, patience).Should(gbytes.Say(`curl "http://`))
		Eventually(session.Err, patience).Should(gbytes.Say("Serving"))
		return pull.NewClient(found(session, `\[host\."(http://127\.0\.0\.1:\d+)"\]`), &http.Transport{})
	}

	stop := func(session *gexec.Session) {
		GinkgoHelper()
		session.Interrupt()
		Eventually(session, patience).Should(gexec.Exit(0))
		for _, output := range [][]byte{session.Out.Contents(), session.Err.Contents()} {
			Expect(output).NotTo(ContainSubstring("s3cret"))
		}
	}

	It("caches a private registry, keeps content across a restart, and never prints the password", func(ctx context.Context) {
		first := start(directory, arguments...)
		client := serving(first)
		Expect(client.Image(ctx, repository, "v1")).To(Equal(image.Size()))
		Expect(client.Manifest(ctx, repository, "latest")).To(Equal(index.Data))
		client.Close()
		stop(first)
		Expect(registry.Counters().Total(upstreamsim.BlobGet)).To(Equal(len(image.Blobs)))

		registry.ResetCounters()
		second := start(directory, arguments...)
		client = serving(second)
		Expect(client.Image(ctx, repository, "v1")).To(Equal(image.Size()))
		Expect(registry.Counters().Total(upstreamsim.BlobGet, upstreamsim.ManifestGet)).To(BeZero())
		client.Close()
		stop(second)

		err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			Expect(path).To(HavePrefix(filepath.Join(directory, "registry-cache-server", username+"@127.0.0.1-")))
			content, err := os.ReadFile(path)
			Expect(string(content)).NotTo(ContainSubstring("s3cret"), path)
			return err
		})
		Expect(err).NotTo(HaveOccurred())
	})

	It("prints a working curl command", func(ctx context.Context) {
		session := start(directory, arguments...)
		defer serving(session).Close()
		url := strings.NewReplacer("REPOSITORY", repository, "TAG", "latest").Replace(found(session, `curl "(.*)"`))
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		Expect(err).NotTo(HaveOccurred())
		request.Header.Set("Accept", "*/*") // As curl does.
		response, err := http.DefaultClient.Do(request)
		Expect(err).NotTo(HaveOccurred())
		defer response.Body.Close()
		Expect(response).To(HaveHTTPStatus(http.StatusOK))
		Expect(io.ReadAll(response.Body)).To(Equal(index.Data))
		stop(session)
	})

	It("logs one short line for each request", func(ctx context.Context) {
		session := start(directory, arguments...)
		client := serving(session)
		defer client.Close()
		Expect(client.Image(ctx, repository, "v1")).To(Equal(image.Size()))
		_, err := client.Manifest(ctx, repository, "v2")
		Expect(err).To(HaveOccurred())
		Eventually(session.Err, patience).Should(gbytes.Say(`GET team/app:v2: notFound \(not_found: status 404 MANIFEST_UNKNOWN\), 0 bytes in [0-9.]+ ms\n`))
		stop(session)
		Expect(bytes.Count(session.Err.Contents(), []byte("GET "))).To(Equal(image.Objects() + 1))
		Expect(session.Err.Contents()).NotTo(ContainSubstring("/v2/"))
	})

	It("waits for downloads after the first signal, and exits at once after the second", func(ctx context.Context) {
		session := start(directory, arguments...)
		client := serving(session)
		defer client.Close()
		registry.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.BlobGet}, HangAfter: 1 << 10})
		response, err := client.Do(ctx, http.MethodGet, "/v2/"+repository+"/blobs/"+image.Blobs[1].Descriptor().Digest.String(), nil)
		Expect(err).NotTo(HaveOccurred())
		defer response.Body.Close()
		session.Interrupt()
		Eventually(session.Err, patience).Should(gbytes.Say("Stopping"))
		session.Interrupt()
		const killed = 128 + int(syscall.SIGINT)
		Eventually(session, patience).Should(gexec.Exit(killed))
	})

	It("names the remedy for an address in use", func() {
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		Expect(err).NotTo(HaveOccurred())
		defer taken.Close()
		session := start(directory, "pull-through", registry.URL(), "--listen", taken.Addr().String())
		Eventually(session, patience).Should(gexec.Exit(1))
		Expect(session.Err.Contents()).To(ContainSubstring(taken.Addr().String()))
		Expect(session.Err.Contents()).To(ContainSubstring("address already in use; choose another port"))
		Expect(session.Out.Contents()).To(BeEmpty())
	})

	It("names the remedy for a status address in use", func() {
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		Expect(err).NotTo(HaveOccurred())
		defer taken.Close()
		session := start(directory, append(arguments, "--status-address", taken.Addr().String())...)
		Eventually(session, patience).Should(gexec.Exit(1))
		Expect(session.Err.Contents()).To(ContainSubstring("--status-address: listen tcp " + taken.Addr().String()))
	})

	It("shows its status on request", func(ctx context.Context) {
		session := start(directory, append(arguments, "--status-address", "127.0.0.1:0")...)
		client := serving(session)
		defer client.Close()
		Expect(client.Image(ctx, repository, "v1")).To(Equal(image.Size()))
		url := regexp.MustCompile(`http://127\.0\.0\.1:\d+/debug/`).Find(session.Err.Contents()) // Logged before it serves.
		Eventually(func(g Gomega) {
			response, err := http.Get(string(url))
			g.Expect(err).NotTo(HaveOccurred())
			defer response.Body.Close()
			g.Expect(response).To(HaveHTTPStatus(http.StatusOK))
			g.Expect(io.ReadAll(response.Body)).To(And(
				ContainSubstring("<h1>"+registry.Host()+"</h1>"), ContainSubstring("Credential, active"), Not(ContainSubstring("s3cret"))))
		}, patience).Should(Succeed())
		stop(session)
	})

	It("names the remedy for a directory in use", func() {
		first := start(directory, arguments...)
		serving(first).Close()
		second := start(directory, arguments...)
		Eventually(second, patience).Should(gexec.Exit(1))
		Expect(second.Err.Contents()).To(ContainSubstring("in use by another process; stop that process or choose another directory"))
		stop(first)
	})

	DescribeTable("fails with a one-line error for", func(message string, wrong ...string) {
		session := start(directory, append([]string{"pull-through"}, wrong...)...)
		Eventually(session, patience).Should(gexec.Exit(1))
		Expect(session.Err.Contents()).To(MatchRegexp(`^registry-cache-server: .*%s.*\n$`, regexp.QuoteMeta(message)))
		Expect(session.Out.Contents()).To(BeEmpty())
	},
		Entry("no registry", "name one registry"),
		Entry("two registries", "name one registry", "docker.io", "ghcr.io"),
		Entry("an invalid host", "UPSTREAM must be the host of a registry", "docker io"),
		Entry("a password on the command line", "unknown flag: --password", "docker.io", "--password=s3cret"),
		Entry("a user without a terminal", "--username needs --password-file", "docker.io", "--username", "john"),
	)
})
