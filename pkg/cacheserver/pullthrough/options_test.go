// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	. "github.com/onsi/gomega/gstruct"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/access"
)

// existing is a file that can be read.
const existing = "options_test.go"

// option returns options that set a single one, which can be in a section.
func option(name string, value any) configuration.Parameters {
	section, field, ok := strings.Cut(name, ".")
	if !ok {
		return configuration.Parameters{name: value}
	}
	return configuration.Parameters{section: map[any]any{field: value}}
}

var _ = Describe("FromConfiguration", func() {
	var config *configuration.Configuration

	BeforeEach(func() {
		config = &configuration.Configuration{
			Storage: configuration.Storage{"filesystem": configuration.Parameters{"rootdirectory": GinkgoT().TempDir()}},
			Proxy:   configuration.Proxy{RemoteURL: "https://registry.example.com"},
		}
	})

	// inEffect returns the options of an engine with the given options in its configuration.
	inEffect := func(options configuration.Parameters) (pullthrough.Options, error) {
		c := *config
		c.Middleware = map[string][]configuration.Middleware{"registry": {{Name: pullthrough.Name, Options: options}}}
		engine, err := pullthrough.FromConfiguration(&c, "", nil)
		if err != nil {
			return pullthrough.Options{}, err
		}
		defer engine.Close()
		inEffect := engine.Options()
		inEffect.Now = nil // Functions are not comparable.
		return inEffect, nil
	}

	Describe("prepares Distribution's configuration", func() {
		It("puts the engine in place of the proxy, before other middlewares", func() {
			config.Middleware = map[string][]configuration.Middleware{
				"registry":   {{Name: "other"}, {Name: pullthrough.Name, Options: option("freshness", "5s")}},
				"repository": {{Name: "another"}},
			}
			engine, err := pullthrough.FromConfiguration(config, "", nil)
			Expect(err).NotTo(HaveOccurred())
			defer engine.Close()
			Expect(config.Proxy).To(BeZero())
			Expect(config.Middleware).To(MatchAllKeys(Keys{
				"registry":   HaveExactElements(HaveField("Name", pullthrough.Name), HaveField("Name", "other")),
				"repository": HaveExactElements(HaveField("Name", pullthrough.Name), HaveField("Name", "another")),
			}))
		})

		It("lets Distribution read the engine's files through the engine's driver", func() {
			given := config.Storage
			root := given["filesystem"]["rootdirectory"]
			given["filesystem"]["maxthreads"] = 50
			config.Storage["delete"] = configuration.Parameters{"enabled": true}
			engine, err := pullthrough.FromConfiguration(config, "", nil)
			Expect(err).NotTo(HaveOccurred())
			defer engine.Close()
			Expect(config.Storage).To(Equal(configuration.Storage{
				pullthrough.Name: configuration.Parameters{"rootdirectory": root, "maxthreads": 50},
				"delete":         configuration.Parameters{"enabled": true},
			}))
			Expect(given).To(HaveKey("filesystem"), "the given section does not change")
		})

		It("removes disabled entries, which Distribution would run", func() {
			config.Middleware = map[string][]configuration.Middleware{
				"registry": {
					{Name: pullthrough.Name, Disabled: true, Options: option("freshness", "broken")},
					{Name: "other", Disabled: true},
				},
				"storage": {{Name: "cloudfront", Disabled: true}},
			}
			engine, err := pullthrough.FromConfiguration(config, "", nil)
			Expect(err).NotTo(HaveOccurred())
			defer engine.Close()
			Expect(engine.Options()).To(HaveField("Freshness", BeZero()))
			Expect(config.Middleware["registry"]).To(HaveExactElements(HaveField("Name", pullthrough.Name)))
			Expect(config.Middleware).NotTo(HaveKey("storage"))
		})

		It("starts no engine without a proxy section", func() {
			config.Proxy.RemoteURL = ""
			engine, err := pullthrough.FromConfiguration(config, "", nil)
			Expect(err).NotTo(HaveOccurred())
			Expect(engine).To(BeNil())
		})
	})

	Describe("refuses", func() {
		It("a middleware without a proxy section", func() {
			config.Proxy.RemoteURL = ""
			_, err := inEffect(nil)
			Expect(err).To(MatchError(ContainSubstring("set proxy.remoteurl")))
		})

		It("two entries for the middleware", func() {
			config.Middleware = map[string][]configuration.Middleware{"registry": {{Name: pullthrough.Name}, {Name: pullthrough.Name}}}
			_, err := pullthrough.FromConfiguration(config, "", nil)
			Expect(err).To(MatchError(ContainSubstring("middleware.registry: pullthrough is listed twice")))
		})

		It("other storage drivers", func() {
			config.Storage = configuration.Storage{"inmemory": configuration.Parameters{}}
			_, err := pullthrough.FromConfiguration(config, "", nil)
			Expect(err).To(MatchError(ContainSubstring(`use "filesystem"`)))
		})
	})

	Describe("options", func() {
		It("default to the engine's", func() {
			got, err := inEffect(nil)
			Expect(err).NotTo(HaveOccurred())
			want := pullthrough.Defaults()
			want.RemoteURL, want.RootDirectory = got.RemoteURL, got.RootDirectory
			want.Log, want.Metrics = got.Log, got.Metrics
			Expect(got).To(Equal(want))
		})

		It("take the TTL and the credential of the proxy section", func() {
			config.Proxy.TTL, config.Proxy.Username, config.Proxy.Password = new(time.Hour), "robot", "s3cret"
			Expect(inEffect(nil)).To(And(
				HaveField("RemoteURL", "https://registry.example.com"),
				HaveField("TTL", time.Hour),
				HaveField("Credential.Username", "robot"),
				HaveField("Credential.Password", "s3cret"),
			))
		})

		DescribeTable("set", func(name string, value any, field string, want any) {
			Expect(inEffect(option(name, value))).To(HaveField(field, want))
		},
			Entry("a duration", "freshness", "90s", "Freshness", 90*time.Second),
			Entry("a number", "retries", 3, "Retries", 3),
			Entry("a number in quotes", "retries", "3", "Retries", 3),
			Entry("a number with an exponent", "scrub.rate", 16e6, "ScrubRate", int64(16e6)),
			Entry("a percentage", "watermarks.high", 95, "HighWatermark", 0.95),
			Entry("a fraction of a percent", "watermarks.low", 70.5, "LowWatermark", 0.705),
			Entry("a percentage in quotes", "watermarks.high", "95", "HighWatermark", 0.95),
			Entry("a mode", "access.mode", "Cluster", "Access.Mode", access.Cluster),
			Entry("a duration of grants", "access.grantduration", "1m", "Access.GrantDuration", time.Minute),
			Entry("a list", "allowedrealms", []any{"auth.example.org", "auth.example.com"}, "AllowedRealms", []string{"auth.example.org", "auth.example.com"}),
			Entry("files that are there", "forwardproxy", map[string]any{"usernamefile": existing, "passwordfile": existing}, "Connection.ProxyUsername", existing),
			Entry("an option in a section that a Go program built", "timeouts", map[string]any{"idle": "1s"}, "Timeouts.Idle", time.Second),
			Entry("a low watermark by default no higher than the high one", "watermarks.high", 50, "LowWatermark", 0.5),
			Entry("the default for null", "maxfetches", nil, "MaxFetches", 64),
			Entry("the default for a section of null", "timeouts", nil, "Timeouts.Idle", 30*time.Second),
			Entry("the default for an empty section", "watermarks", map[any]any{}, "LowWatermark", 0.8),
		)

		DescribeTable("can be zero", func(name, field string) {
			Expect(inEffect(option(name, 0))).To(HaveField(field, BeZero()))
		},
			Entry(nil, "freshness", "Freshness"),
			Entry(nil, "access.outagegrantduration", "Access.OutageGrantDuration"),
			Entry(nil, "validationtimeout", "ValidationTimeout"),
			Entry(nil, "suspecttimeout", "SuspectTimeout"),
			Entry(nil, "graceperiod", "GracePeriod"),
			Entry(nil, "retries", "Retries"),
			Entry(nil, "timeouts.minrate", "Timeouts.MinRate"),
			Entry(nil, "watermarks.low", "LowWatermark"),
			Entry(nil, "scrub.interval", "ScrubInterval"),
			Entry(nil, "scrub.rate", "ScrubRate"),
		)

		DescribeTable("cannot be zero where that makes no sense", func(name string) {
			_, err := inEffect(option(name, 0))
			Expect(err).To(MatchError(ContainSubstring(name + " must be ")))
		},
			Entry(nil, "maxfetches"),
			Entry(nil, "access.grantduration"),
			Entry(nil, "timeouts.connect"),
			Entry(nil, "timeouts.firstbyte"),
			Entry(nil, "timeouts.idle"),
			Entry(nil, "timeouts.client"),
			Entry(nil, "watermarks.high"),
		)

		DescribeTable("are refused by name", func(name string, value any, message string) {
			_, err := inEffect(option(name, value))
			Expect(err).To(MatchError("options of middleware pullthrough: " + message))
		},
			Entry("an unknown option", "fresness", "5s", "fresness is not an option, correct its name or remove it"),
			Entry("an option in capitals", "Freshness", "5s", "Freshness is not an option, correct its name or remove it"),
			Entry("an unknown option in a section", "timeouts.idel", "5s", "timeouts.idel is not an option, correct its name or remove it"),
			Entry("an option without its section", "idle", "5s", "idle is not an option, correct its name or remove it"),
			Entry("the engine's own option", "engine", "x", "engine is not an option, correct its name or remove it"),
			Entry("an upstream", "remoteurl", "https://elsewhere.example.com", "remoteurl is not an option, set proxy.remoteurl"),
			Entry("a TTL", "ttl", "1h", "ttl is not an option, set proxy.ttl"),
			Entry("a root directory", "rootdirectory", "/data", "rootdirectory is not an option, set storage.filesystem.rootdirectory"),
			Entry("an unknown mode", "access.mode", "Anyone", "access.mode Anyone needs TLS, set http.tls.certificate and http.tls.key; access.mode must be Cluster, PullSecrets or Nodes"),
			Entry("restricted access without TLS", "access.mode", "PullSecrets", "access.mode PullSecrets needs TLS, set http.tls.certificate and http.tls.key"),
			Entry("accounts where every client may read everything", "access.accountsfile", "/accounts",
				"access.accountsfile must be unset for the mode Cluster, in which every client may read everything"),
			Entry("authorities of clients in another mode", "access.clientcafile", "/ca", "access.clientcafile must be set for the mode Nodes, and only for that"),
			Entry("a grant that lasts too long", "access.grantduration", "2h", "access.grantduration must be from 1s to 1h"),
			Entry("a duration without a unit", "freshness", 5, "freshness must be a duration, such as 10s"),
			Entry("a list in place of a duration", "freshness", []any{"5s"}, "freshness must be a duration, such as 10s"),
			Entry("a negative duration", "freshness", "-5s", "freshness must not be negative"),
			Entry("a word in place of a number", "retries", "many", "retries must be a whole number"),
			Entry("a boolean in place of a number", "retries", true, "retries must be a whole number"),
			Entry("a fraction in place of a whole number", "retries", 2.5, "retries must be a whole number"),
			Entry("a number that is too large", "scrub.rate", 1e300, "scrub.rate must be a whole number"),
			Entry("a negative number", "timeouts.minrate", -1, "timeouts.minrate must not be negative"),
			Entry("a word in place of a percentage", "watermarks.high", "most", "watermarks.high must be a number"),
			Entry("a number in place of a string", "credentials", 5, "credentials must be a string"),
			Entry("a string in place of a list", "allowedrealms", "auth.example.org", "allowedrealms must be a list of strings"),
			Entry("a number in a list of strings", "allowedrealms", []any{"auth.example.org", 5}, "allowedrealms[1] must be a string"),
			Entry("a client certificate without a key", "clientcertificate.certificate", "/tls.crt", "clientcertificate must have both a certificate and a key"),
			Entry("a key without a client certificate", "clientcertificate.key", "/tls.key", "clientcertificate must have both a certificate and a key"),
			Entry("a user name for the proxy without a password", "forwardproxy.usernamefile", "/username", "forwardproxy must have both a usernamefile and a passwordfile"),
			Entry("the password for the proxy itself", "forwardproxy.password", "s3cret", "forwardproxy.password is not an option, correct its name or remove it"),
			Entry("a number in place of a section", "watermarks", 90, "watermarks must be a section with options of its own"),
			Entry("a number in place of a name", "timeouts", map[any]any{5: "5s"}, "timeouts must be a section with options of its own"),
			Entry("watermarks in the wrong order", "watermarks", map[any]any{"high": 50, "low": 60}, "watermarks.low must be a percentage from 0 to watermarks.high"),
			Entry("more than a full volume", "watermarks.high", 101, "watermarks.high must be a percentage above 0, at most 100"),
			Entry("a percentage that is not a number", "watermarks.high", "NaN",
				"watermarks.high must be a percentage above 0, at most 100; watermarks.low must be a percentage from 0 to watermarks.high"),
		)

		It("are refused with what restricted access replaces", func() {
			config.HTTP.TLS.Certificate, config.HTTP.TLS.Key = "/tls.crt", "/tls.key"
			config.HTTP.TLS.ClientCAs = []string{"/ca.crt"}
			config.Auth = configuration.Auth{"htpasswd": configuration.Parameters{}}
			_, err := inEffect(option("access.mode", "PullSecrets"))
			Expect(err).To(MatchError("options of middleware pullthrough: access.mode PullSecrets replaces auth.htpasswd, remove it; " +
				"access.mode PullSecrets replaces http.tls.clientcas and http.tls.clientauth, remove them"))
		})

		It("are refused in one line with everything that is wrong", func() {
			_, err := inEffect(configuration.Parameters{
				"fresness": "5s", "retries": "many", "maxfetches": 0,
				"timeouts": map[any]any{"idel": "5s", "connect": 3, "firstbyte": "0s"},
			})
			Expect(err).To(MatchError("options of middleware pullthrough: fresness is not an option, correct its name or remove it; maxfetches must be at least 1; " +
				"retries must be a whole number; timeouts.connect must be a duration, such as 10s; timeouts.firstbyte must be positive; " +
				"timeouts.idel is not an option, correct its name or remove it"))
		})

		It("name a CA bundle that is missing", func() {
			_, err := inEffect(option("cabundle", "/does/not/exist"))
			Expect(err).To(MatchError(ContainSubstring("CA bundle")))
		})

		It("name a client certificate that is missing", func() {
			_, err := inEffect(option("clientcertificate", map[any]any{"certificate": "/does/not/exist", "key": existing}))
			Expect(err).To(MatchError(ContainSubstring("client certificate")))
		})

		It("do not quote a client certificate that cannot be used", func() {
			file := filepath.Join(GinkgoT().TempDir(), "tls.crt")
			Expect(os.WriteFile(file, []byte("-----BEGIN s3cret-----\ns3cret\n-----END s3cret-----\n"), 0o600)).To(Succeed())
			_, err := inEffect(option("clientcertificate", map[any]any{"certificate": file, "key": file}))
			Expect(err).To(MatchError(And(ContainSubstring("cannot be parsed or do not match"), Not(ContainSubstring("s3cret")))))
		})

		It("are all documented, with their defaults", func() {
			document, err := os.ReadFile("../../../docs/cache-server.md")
			Expect(err).NotTo(HaveOccurred())
			defaults, err := inEffect(nil)
			Expect(err).NotTo(HaveOccurred())
			rows := regexp.MustCompile("(?m)^\\| `([a-z.]+)` \\| [a-z ]+ \\| (.*?) ?\\|").FindAllStringSubmatch(string(document), -1)
			var documented []string
			for _, row := range rows {
				documented = append(documented, row[1])
				if value, ok := strings.CutPrefix(row[2], "`"); ok {
					Expect(inEffect(option(row[1], strings.TrimSuffix(value, "`")))).To(Equal(defaults), row[1])
				}
			}
			Expect(documented).To(ConsistOf(pullthrough.OptionNames()))
		})
	})
})
