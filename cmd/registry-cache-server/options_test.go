// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/sirupsen/logrus"
	logrustest "github.com/sirupsen/logrus/hooks/test"
	"github.com/spf13/pflag"

	"github.com/larder-project/larder/pkg/cacheserver/clients"
	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/upstream"
)

var _ = Describe("options", func() {
	var o options

	BeforeEach(func() {
		o = *defaultOptions()
		o.directory = "/caches"
	})

	It("default to the user's cache directory and a loopback address", func() {
		GinkgoT().Setenv("XDG_CACHE_HOME", "/home/john/.cache")
		Expect(*defaultOptions()).To(Equal(options{
			listen: "127.0.0.1:5000", directory: "/home/john/.cache/registry-cache-server", ttl: 168 * time.Hour, maxDiskUse: 90,
		}))
	})

	DescribeTable("describe a cache of", func(registry string, change func(*options), server config.Config, client clients.Cache) {
		change(&o)
		gotServer, gotClient, err := o.describe(registry)
		Expect(err).NotTo(HaveOccurred())
		Expect(gotServer).To(Equal(server))
		Expect(gotClient).To(Equal(client))
		_, err = gotServer.Marshal()
		Expect(err).NotTo(HaveOccurred())
	},
		Entry("Docker Hub", "registry-1.docker.io", func(*options) {},
			config.Config{
				RemoteURL: "https://registry-1.docker.io", TTL: 168 * time.Hour,
				Local: &config.Local{Address: "127.0.0.1:5000", Directory: "/caches/docker.io", MaxDiskUse: 90},
			},
			clients.Cache{Upstream: "docker.io", RemoteURL: "https://registry-1.docker.io"}),
		Entry("another registry", "http://registry.example.com:5000", func(o *options) {
			o.listen, o.statusAddress, o.directory, o.ttl, o.maxDiskUse = ":0", "127.0.0.1:5001", "/data", 0, 100
		},
			config.Config{
				RemoteURL: "http://registry.example.com:5000",
				Local: &config.Local{
					Address: ":0", StatusAddress: "127.0.0.1:5001", Directory: "/data/registry.example.com-5000", MaxDiskUse: 100,
				},
			},
			clients.Cache{Upstream: "registry.example.com:5000", RemoteURL: "http://registry.example.com:5000"}),
	)

	DescribeTable("give each user a directory", func(username, directory string) {
		o.username = username
		server, _, err := o.describe("ghcr.io")
		Expect(err).NotTo(HaveOccurred())
		Expect(server.Local.Directory).To(Equal(directory))
	},
		Entry("no user", "", "/caches/ghcr.io"),
		Entry("a user", "john", "/caches/john@ghcr.io"),
		Entry("a user with a separator in the name", "../org/john", "/caches/..%2Forg%2Fjohn@ghcr.io"),
		Entry("a user with the name of a directory", "..", "/caches/..@ghcr.io"),
	)

	It("make the directory absolute", func() {
		o.directory = "caches"
		server, _, err := o.describe("docker.io")
		Expect(err).NotTo(HaveOccurred())
		here, err := os.Getwd()
		Expect(err).NotTo(HaveOccurred())
		Expect(server.Local.Directory).To(Equal(filepath.Join(here, "caches", "docker.io")))
	})

	DescribeTable("refuse", func(registry string, change func(*options), message string) {
		change(&o)
		_, _, err := o.describe(registry)
		Expect(err).To(MatchError(HavePrefix(message)))
	},
		Entry("another scheme", "oci://ghcr.io", func(*options) {}, "UPSTREAM must begin with https://"),
		Entry("a path", "ghcr.io/org", func(*options) {}, "UPSTREAM must be a host without a path"),
		Entry("an address without a port", "docker.io", func(o *options) { o.listen = "127.0.0.1" }, "--listen must be [host]:port"),
		Entry("only a port", "docker.io", func(o *options) { o.listen = "5001" }, "--listen must be [host]:port"),
		Entry("a port that is not a number", "docker.io", func(o *options) { o.listen = "127.0.0.1:http" }, "--listen must be [host]:port"),
		Entry("a port that is too high", "docker.io", func(o *options) { o.listen = "127.0.0.1:65536" }, "--listen must be [host]:port"),
		Entry("a status address without a port", "docker.io", func(o *options) { o.statusAddress = "127.0.0.1" }, "--status-address must be [host]:port"),
		Entry("no directory", "docker.io", func(o *options) { o.directory = "" }, "--directory must be set"),
		Entry("a negative TTL", "docker.io", func(o *options) { o.ttl = -time.Second }, "--ttl must not be negative"),
		Entry("a limit of 0 percent of the disk", "docker.io", func(o *options) { o.maxDiskUse = 0 }, "--max-disk-use must be a percentage"),
		Entry("a limit above 100 percent of the disk", "docker.io", func(o *options) { o.maxDiskUse = 101 }, "--max-disk-use must be a percentage"),
		Entry("a password without a user", "docker.io", func(o *options) { o.passwordFile = "/password" }, "--password-file needs --username"),
	)

	Describe("credential", func() {
		var (
			file     string
			question string
			answer   string
			failure  error
			asked    = terminal{
				present: func() bool { return true },
				ask: func(_ context.Context, q string) (string, error) {
					question = q
					return answer, failure
				},
			}
			absent = terminal{present: func() bool { return false }}
		)

		BeforeEach(func() {
			file = filepath.Join(GinkgoT().TempDir(), "password")
			question, answer, failure = "", "", nil
			o.username = "john"
		})

		It("is anonymous without a user", func(ctx context.Context) {
			o.username = ""
			Expect(o.credential(ctx, "docker.io", absent)).To(Equal(credentials.Credential{}))
		})

		DescribeTable("is read from a file", func(ctx context.Context, content, password string) {
			Expect(os.WriteFile(file, []byte(content), 0o600)).To(Succeed())
			o.passwordFile = file
			c, err := o.credential(ctx, "docker.io", asked)
			Expect(err).NotTo(HaveOccurred())
			Expect(c.Username).To(Equal("john"))
			Expect(c.Password).To(Equal(password))
			Expect(question).To(BeEmpty())
		},
			Entry("a password", "s3cret", "s3cret"),
			Entry("a password with a newline", "s3cret\n", "s3cret"),
			Entry("a password with a Windows newline", "s3cret\r\n", "s3cret"),
			Entry("a password with two newlines, of which one is removed", "s3cret\n\n", "s3cret\n"),
			Entry("a password with spaces", " s3cret ", " s3cret "),
		)

		It("is asked for on the terminal", func(ctx context.Context) {
			answer = "s3cret"
			c, err := o.credential(ctx, "docker.io", asked)
			Expect(err).NotTo(HaveOccurred())
			Expect(c.Password).To(Equal("s3cret"))
			Expect(question).To(Equal("Password of john at docker.io: "))
		})

		DescribeTable("refuses", func(ctx context.Context, change func(), message string) {
			change()
			terminal := absent
			if answer != "" || failure != nil || message == "the password is empty" {
				terminal = asked
			}
			c, err := o.credential(ctx, upstream.Upstream("docker.io"), terminal)
			Expect(err).To(MatchError(ContainSubstring(message)))
			Expect(err.Error()).NotTo(ContainSubstring("s3cret"))
			Expect(c).To(Equal(credentials.Credential{}))
		},
			Entry("a user name with a password", func() { o.username, answer = "john:s3cret", "s3cret" }, "--username: a user name must not have colons"),
			Entry("no terminal", func() {}, "--username needs --password-file"),
			Entry("a terminal that fails", func() { failure = errors.New("hung up") }, "hung up"),
			Entry("an empty password", func() {}, "the password is empty"),
			Entry("an empty file", func() {
				Expect(os.WriteFile(file, []byte("\n"), 0o600)).To(Succeed())
				o.passwordFile = file
			}, "the password is empty"),
			Entry("a missing file", func() { o.passwordFile = file }, "--password-file: open "),
			Entry("a directory", func() { o.passwordFile = filepath.Dir(file) }, "--password-file: read "),
			Entry("a file that is too large", func() {
				Expect(os.WriteFile(file, []byte(strings.Repeat("s3cret", maxPassword)), 0o600)).To(Succeed())
				o.passwordFile = file
			}, "has more than 65536 bytes"),
		)
	})
})

var _ = Describe("flags", func() {
	It("are all documented, with their defaults", func() {
		GinkgoT().Setenv("XDG_CACHE_HOME", "/home/john/.cache")
		document, err := os.ReadFile("../../docs/cache-server.md")
		Expect(err).NotTo(HaveOccurred())
		flags := newPullThroughCommand().Flags()
		var documented, existing []string
		for _, row := range regexp.MustCompile("(?m)^\\| `--([a-z-]+)` \\| (?:`([^`]*)` )?(.*?)\\|").FindAllStringSubmatch(string(document), -1) {
			name, value, rest := row[1], row[2], row[3]
			documented = append(documented, name)
			flag := flags.Lookup(name)
			Expect(flag).NotTo(BeNil(), name)
			if rest == "" && value != "" {
				Expect(flags.Set(name, value)).To(Succeed())
				Expect(flag.Value.String()).To(Equal(flag.DefValue), name)
			}
		}
		flags.VisitAll(func(flag *pflag.Flag) { existing = append(existing, flag.Name) })
		Expect(documented).To(ConsistOf(existing))
	})
})

var _ = Describe("announce", func() {
	const beyond, unencrypted = "Listening beyond this machine", "without TLS: the password"
	const https = "https://registry.example.com"
	john, anonymous := credentials.Credential{Username: "john", Password: "s3cret"}, credentials.Credential{}

	DescribeTable("warns when a credential is exposed", func(remoteURL, bound string, c credentials.Credential, address string, warnings ...string) {
		hook := logrustest.NewGlobal()
		logrus.SetOutput(GinkgoWriter)
		DeferCleanup(logrus.StandardLogger().ReplaceHooks, logrus.LevelHooks{})
		out := gbytes.NewBuffer()
		announce(clients.Cache{Upstream: "docker.io", RemoteURL: remoteURL}, netip.MustParseAddrPort(bound), "/caches", c, out)

		Expect(out.Contents()).To(ContainSubstring(`[host."http://` + address + `"]`))
		var given []string
		for _, entry := range hook.AllEntries() {
			line, err := entry.String()
			Expect(err).NotTo(HaveOccurred())
			Expect(line).NotTo(ContainSubstring("s3cret"))
			for _, warning := range []string{beyond, unencrypted} {
				if entry.Level == logrus.WarnLevel && strings.Contains(line, warning) {
					given = append(given, warning)
				}
			}
		}
		Expect(given).To(ConsistOf(warnings))
	},
		Entry("on a loopback address", https, "127.0.0.1:5000", john, "127.0.0.1:5000"),
		Entry("on the IPv6 loopback address", https, "[::1]:5000", john, "[::1]:5000"),
		Entry("on another address", https, "192.0.2.1:5000", john, "192.0.2.1:5000", beyond),
		Entry("on all addresses", https, "[::]:5000", john, "127.0.0.1:5000", beyond),
		Entry("on all IPv4 addresses", https, "0.0.0.0:5000", john, "127.0.0.1:5000", beyond),
		Entry("on all addresses, anonymously", https, "0.0.0.0:5000", anonymous, "127.0.0.1:5000"),
		Entry("between the cache and the upstream", "http://registry.example.com", "127.0.0.1:5000", john, "127.0.0.1:5000", unencrypted),
		Entry("between the cache and the upstream, anonymously", "http://registry.example.com", "127.0.0.1:5000", anonymous, "127.0.0.1:5000"),
	)

	DescribeTable("warns when others can see the status", func(bound, url string, level logrus.Level) {
		hook := logrustest.NewGlobal()
		logrus.SetOutput(GinkgoWriter)
		DeferCleanup(logrus.StandardLogger().ReplaceHooks, logrus.LevelHooks{})
		announceStatus(netip.MustParseAddrPort(bound))
		Expect(hook.LastEntry().Data).To(HaveKeyWithValue("url", url))
		Expect(hook.Entries[0].Level).To(Equal(level))
	},
		Entry("on a loopback address", "127.0.0.1:5001", "http://127.0.0.1:5001/debug/", logrus.InfoLevel),
		Entry("on another address", "192.0.2.1:5001", "http://192.0.2.1:5001/debug/", logrus.WarnLevel),
		Entry("on all addresses", "[::]:5001", "http://127.0.0.1:5001/debug/", logrus.WarnLevel),
	)
})
