// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver"
)

// sections are the top-level fields of a configuration file and their values in YAML.
type sections map[string]string

// pullThrough returns a middleware section with the given options.
func pullThrough(options string) string {
	return "{registry: [{name: pullthrough, options: " + options + "}]}"
}

var _ = Describe("Run", func() {
	var (
		dir string
		log *gbytes.Buffer
	)

	BeforeEach(func() {
		dir, log = GinkgoT().TempDir(), gbytes.NewBuffer()
		formatter, level := logrus.StandardLogger().Formatter, logrus.GetLevel()
		logrus.SetOutput(log)
		DeferCleanup(func() {
			logrus.SetOutput(GinkgoWriter)
			logrus.SetFormatter(formatter)
			logrus.SetLevel(level)
		})
	})

	// start starts and stops a server with the given sections in place of those of a minimal configuration.
	start := func(changed sections) error {
		GinkgoHelper()
		all := sections{
			"version": "0.1",
			"storage": "{filesystem: {rootdirectory: " + filepath.Join(dir, "cache") + "}}",
			"http":    "{addr: '127.0.0.1:0'}",
			"proxy":   "{remoteurl: 'https://registry.example.com'}",
		}
		maps.Copy(all, changed)
		var content strings.Builder
		for _, name := range slices.Sorted(maps.Keys(all)) {
			fmt.Fprintf(&content, "%s: %s\n", name, strings.ReplaceAll(all[name], "$DIR", dir))
		}
		path := filepath.Join(dir, "config.yml")
		Expect(os.WriteFile(path, []byte(content.String()), 0o600)).To(Succeed())
		stopped, stop := context.WithCancel(context.Background())
		stop()
		return cacheserver.Run(stopped, path)
	}

	DescribeTable("starts with", func(changed sections) {
		Expect(start(changed)).To(Succeed())
		Expect(log).To(gbytes.Say("Serving"))
	},
		Entry("a proxy section alone", nil),
		Entry("middleware: null", sections{"middleware": "null"}),
		Entry("middleware: no entries", sections{"middleware": "{registry: []}"}),
		Entry("middleware: no options", sections{"middleware": "{registry: [{name: pullthrough}]}"}),
		Entry("middleware: options that are null", sections{"middleware": pullThrough("null")}),
		Entry("middleware: an option that is null", sections{"middleware": pullThrough("{freshness: null}")}),
		Entry("middleware: a section that is null", sections{"middleware": pullThrough("{timeouts: null}")}),
		Entry("middleware: a number in quotes", sections{"middleware": pullThrough("{retries: '3'}")}),
		Entry("middleware: a disabled entry", sections{"middleware": "{registry: [{name: pullthrough, disabled: true, options: {freshness: 5}}]}"}),
		Entry("middleware: a disabled entry beside an enabled one",
			sections{"middleware": "{registry: [{name: pullthrough, disabled: true}, {name: pullthrough}]}"}),
		Entry("middleware: a disabled one that is not built in", sections{"middleware": "{storage: [{name: cloudfront, disabled: true}]}"}),
		Entry("auth: none", sections{"auth": "none"}),
		Entry("auth: users in a file", sections{"auth": "{htpasswd: {realm: cache, path: $DIR/htpasswd}}"}),
		Entry("notifications", sections{"notifications": "{endpoints: [{name: a, url: 'http://127.0.0.1:1', timeout: 1s, threshold: 1, backoff: 1s}]}"}),
		Entry("notifications: a disabled endpoint", sections{"notifications": "{endpoints: [{name: a, disabled: true}]}"}),
		Entry("health", sections{"health": "{storagedriver: {enabled: true, interval: 10s, threshold: 3}}"}),
		Entry("storage: a cache in memory", sections{"storage": "{filesystem: {rootdirectory: $DIR/cache}, cache: {blobdescriptor: inmemory}}"}),
		Entry("storage: a cache in Redis", sections{
			"storage": "{filesystem: {rootdirectory: $DIR/cache}, cache: {blobdescriptor: redis}}", "redis": "{addrs: ['127.0.0.1:1']}",
		}),
		Entry("storage: an unknown cache", sections{"storage": "{filesystem: {rootdirectory: $DIR/cache}, cache: {blobdescriptor: paper}}"}),
		Entry("storage: a cache that is null", sections{"storage": "{filesystem: {rootdirectory: $DIR/cache}, cache: null}"}),
		Entry("storage: deletion", sections{"storage": "{filesystem: {rootdirectory: $DIR/cache}, delete: {enabled: true}}"}),
		Entry("storage: maintenance", sections{
			"storage": "{filesystem: {rootdirectory: $DIR/cache}, maintenance: {readonly: {enabled: true}, uploadpurging: {enabled: false}}}",
		}),
		Entry("storage: redirects", sections{"storage": "{filesystem: {rootdirectory: $DIR/cache}, redirect: {disable: true}}"}),
		Entry("storage: a limit for tags", sections{"storage": "{filesystem: {rootdirectory: $DIR/cache}, tag: {concurrencylimit: 5}}"}),
		Entry("proxy: a timeout for writes to the cache", sections{"proxy": "{remoteurl: 'https://registry.example.com', cachewritetimeout: 1m}"}),
		Entry("proxy: a credential helper beside a credential",
			sections{"proxy": "{remoteurl: 'https://registry.example.com', username: a, password: b, exec: {command: docker-credential-none}}"}),
		Entry("sections about pushes and lists", sections{
			"validation": "{manifests: {urls: {allow: [a]}}}", "policy": "{repository: {classes: [image]}}", "catalog": "{maxentries: 10}",
		}),
	)

	DescribeTable("ignores, with a warning,", func(changed sections, warning string) {
		Expect(start(changed)).To(Succeed())
		Expect(log).To(gbytes.Say("Ignoring unknown fields of the configuration.*" + warning))
	},
		Entry("an unknown section", sections{"prxy": "{ttl: 1h}"}, "field prxy not found"),
		Entry("an unknown field", sections{"proxy": "{remoteurl: 'https://registry.example.com', tll: 1h}"}, "field tll not found"),
		Entry("a field that is given twice", sections{"proxy": "{remoteurl: 'https://a.example.com', remoteurl: 'https://b.example.com'}"}, "field remoteurl already set"),
	)

	DescribeTable("refuses", func(changed sections, message string) {
		err := start(changed)
		Expect(err).To(MatchError(ContainSubstring(message)))
		Expect(err).To(MatchError(ContainSubstring(filepath.Join(dir, "config.yml"))))
		Expect(err.Error()).NotTo(ContainSubstring("\n"))
		Expect(log).NotTo(gbytes.Say("Serving"))
	},
		Entry("no version", sections{"version": ""}, `unsupported version: "", set version: 0.1`),
		Entry("no upstream", sections{"proxy": "{}"}, "proxy.remoteurl: missing, set"),
		Entry("an upstream in the middleware alone", sections{"proxy": "{}", "middleware": pullThrough("{remoteurl: 'https://registry.example.com'}")},
			"proxy.remoteurl: missing, set"),
		Entry("another upstream in the middleware", sections{"middleware": pullThrough("{remoteurl: 'https://elsewhere.example.com'}")},
			"remoteurl is not an option, set proxy.remoteurl"),
		Entry("another root directory in the middleware", sections{"middleware": pullThrough("{rootdirectory: /data}")},
			"rootdirectory is not an option, set storage.filesystem.rootdirectory"),
		Entry("another TTL in the middleware", sections{"middleware": pullThrough("{ttl: 1h}")}, "ttl is not an option, set proxy.ttl"),
		Entry("two entries of the middleware", sections{"middleware": "{registry: [{name: pullthrough}, {name: pullthrough}]}"},
			"middleware.registry: pullthrough is listed twice, merge its options into one entry"),
		Entry("options that are a list", sections{"middleware": pullThrough("[freshness]")}, "cannot unmarshal !!seq into configuration.Parameters"),
		Entry("several wrong options", sections{"middleware": pullThrough("{fresness: 5s, retries: many, timeouts: {idle: 5}}")},
			"fresness is not an option, correct its name or remove it; retries must be a whole number; timeouts.idle must be a duration, such as 10s"),
		Entry("a middleware that is not built in", sections{"middleware": "{registry: [{name: pullthrough}, {name: other}]}"},
			`middleware.registry[1]: "other" is not built in, remove it`),
		Entry("another storage driver", sections{"storage": "{s3: {bucket: a}}"}, "storage.s3: this storage driver is not built in, use filesystem"),
		Entry("a number of threads that is a word", sections{"storage": "{filesystem: {rootdirectory: $DIR/cache, maxthreads: many}}"}, "maxthreads: many is not a number"),
		Entry("a cache in Redis without Redis", sections{"storage": "{filesystem: {rootdirectory: $DIR/cache}, cache: {blobdescriptor: redis}}"}, "redis configuration required"),
		Entry("redirects without a choice", sections{"storage": "{filesystem: {rootdirectory: $DIR/cache}, redirect: {}}"}, "invalid type for redirect config"),
		Entry("an access controller without its file", sections{"auth": "{htpasswd: {realm: cache}}"}, "unable to configure authorization (htpasswd)"),
		Entry("a duration without a unit", sections{"proxy": "{remoteurl: 'https://registry.example.com', ttl: many}"}, "into time.Duration"),
	)

	It("refuses an empty file", func() {
		path := filepath.Join(dir, "config.yml")
		Expect(os.WriteFile(path, []byte("\n"), 0o600)).To(Succeed())
		Expect(cacheserver.Run(context.Background(), path)).To(MatchError("read configuration " + path +
			": the file is empty, see docs/cache-server.md for an example"))
	})
})
