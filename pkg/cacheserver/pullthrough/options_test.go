// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough_test

import (
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
)

// option is the options that set the one of that name, which may be in a section.
func option(name string, value any) configuration.Parameters {
	section, field, ok := strings.Cut(name, ".")
	if !ok {
		return configuration.Parameters{name: value}
	}
	return configuration.Parameters{section: map[any]any{field: value}}
}

var _ = Describe("Options", func() {
	const remote = "https://registry.example.com"
	// inEffect are the options of an engine for a proxy section and options of the middleware.
	inEffect := func(proxy configuration.Proxy, options configuration.Parameters) (pullthrough.Options, error) {
		engine, err := pullthrough.FromConfiguration(&configuration.Configuration{
			Storage:    configuration.Storage{"filesystem": configuration.Parameters{"rootdirectory": GinkgoT().TempDir()}},
			Proxy:      proxy,
			Middleware: map[string][]configuration.Middleware{"registry": {{Name: pullthrough.Name, Options: options}}},
		}, "")
		if err != nil {
			return pullthrough.Options{}, err
		}
		defer engine.Close()
		return engine.Options(), nil
	}

	It("come before the proxy section", func() {
		ttl := time.Hour
		proxy := configuration.Proxy{RemoteURL: remote, TTL: &ttl}
		Expect(inEffect(proxy, nil)).To(HaveField("TTL", time.Hour))
		Expect(inEffect(proxy, option("ttl", "2h"))).To(HaveField("TTL", 2*time.Hour))
		Expect(inEffect(proxy, option("ttl", 0))).To(HaveField("TTL", BeZero()))
		Expect(inEffect(proxy, option("remoteurl", remote))).To(HaveField("RemoteURL", remote))
		Expect(inEffect(configuration.Proxy{}, option("remoteurl", remote))).To(HaveField("RemoteURL", remote))
		_, err := inEffect(proxy, option("remoteurl", "https://elsewhere.example.com"))
		Expect(err).To(MatchError(ContainSubstring("remoteurl")), "which would get this one's credential")
	})

	DescribeTable("may be zero", func(name, field string) {
		Expect(inEffect(configuration.Proxy{RemoteURL: remote}, option(name, 0))).To(HaveField(field, BeZero()))
	},
		Entry(nil, "ttl", "TTL"),
		Entry(nil, "freshness", "Freshness"),
		Entry(nil, "validationtimeout", "ValidationTimeout"),
		Entry(nil, "graceperiod", "GracePeriod"),
		Entry(nil, "retries", "Retries"),
		Entry(nil, "timeouts.minrate", "Timeouts.MinRate"),
		Entry(nil, "watermarks.low", "LowWatermark"),
		Entry(nil, "scrub.interval", "ScrubInterval"),
		Entry(nil, "scrub.rate", "ScrubRate"),
	)

	DescribeTable("may not be zero where that makes no sense", func(name string) {
		_, err := inEffect(configuration.Proxy{RemoteURL: remote}, option(name, 0))
		section, _, _ := strings.Cut(name, ".")
		Expect(err).To(MatchError(ContainSubstring(section)))
	},
		Entry(nil, "maxfetches"),
		Entry(nil, "timeouts.connect"),
		Entry(nil, "timeouts.firstbyte"),
		Entry(nil, "timeouts.idle"),
		Entry(nil, "timeouts.client"),
		Entry(nil, "watermarks.high"),
	)

	It("keep the low watermark below the high one", func() {
		Expect(pullthrough.Parse(option("watermarks.high", 50))).To(HaveField("LowWatermark", 0.5))
	})

	It("are all documented, with their defaults", func() {
		document, err := os.ReadFile("../../../docs/cache-server.md")
		Expect(err).NotTo(HaveOccurred())
		rows := regexp.MustCompile("(?m)^\\| `([a-z.]+)` \\| (.*?) ?\\|").FindAllStringSubmatch(string(document), -1)
		var documented []string
		for _, row := range rows {
			documented = append(documented, row[1])
			if value, ok := strings.CutPrefix(row[2], "`"); ok {
				Expect(pullthrough.Parse(option(row[1], strings.TrimSuffix(value, "`")))).To(Equal(pullthrough.Defaults()), row[1])
			}
		}
		Expect(documented).To(ConsistOf(pullthrough.OptionNames()))
	})
})
