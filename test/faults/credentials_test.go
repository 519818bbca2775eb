// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/secretvolume"
	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("credentials", func() {
	inject(
		fault{name: "changed in the configuration file: used", stock: stockFails, check: rewritten(inConfiguration, nil)},
		fault{name: "changed in the credentials directory: used", stock: stockFails, check: rewritten(inDirectory, useDirectory)},
		fault{name: "several, by repository path: each used for its own", stock: stockFails, check: byRepositoryPath},
		fault{name: "replaced by wrong ones: the old ones stay in use", stock: stockVaries, check: wrongOnesWritten},
		fault{name: "redirect to another host: not sent", stock: stockWithstands, check: redirected},
		fault{name: "realm on another host: rejected, not sent", stock: stockWithstands, check: foreignRealm},
		fault{name: "realm on another host that is allowed: sent", stock: stockFails, check: allowedRealm},
	)
})

// writer writes the credentials of a server.
type writer func(g Gomega, server *cacheprocess.Server, username, password string)

func inConfiguration(g Gomega, server *cacheprocess.Server, username, password string) {
	server.Config.Username, server.Config.Password = username, password
	g.Expect(server.WriteConfig()).To(Succeed())
}

func inDirectory(g Gomega, server *cacheprocess.Server, username, password string) {
	server.Config.Username, server.Config.Password = "", ""
	if dir, ok := server.Config.Options["credentials"].(string); ok {
		g.Expect(secretvolume.Write(dir, map[string][]byte{"username": []byte(username), "password": []byte(password)})).To(Succeed())
	}
}

// useDirectory configures a credentials directory.
func useDirectory(g Gomega, c *cache) {
	c.server.Config.Options["credentials"] = c.temporaryDirectory(g)
}

func rewritten(write writer, prepare func(Gomega, *cache)) func(context.Context, Gomega, *cache) {
	return func(ctx context.Context, g Gomega, c *cache) {
		c.prepare(g, setup{})
		if prepare != nil {
			prepare(g, c)
		}
		write(g, c.server, username, password)
		g.Expect(c.server.Start(ctx)).To(Succeed())
		c.push(name, tag, 1, 1, mib)
		g.Expect(c.pull(ctx, name, tag)).To(Succeed())

		c.upstream.SetCredential(username, "rotated")
		write(g, c.server, username, "rotated")
		c.push(name, "v2", 2, 1, mib)
		g.Eventually(ctx, func() error { return c.pull(ctx, name, "v2") }).WithTimeout(c.recovery()).Should(Succeed())
		g.Expect(c.server.Exited()).To(BeFalse())
	}
}

// byRepositoryPath configures a valid credential for one path of repositories and invalid ones for the rest.
func byRepositoryPath(ctx context.Context, g Gomega, c *cache) {
	c.prepare(g, setup{})
	useDirectory(g, c)
	c.server.Config.Username, c.server.Config.Password = "", ""
	host := strings.TrimPrefix(c.upstream.URL(), "http://")
	encode := func(password string) map[string]string {
		return map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(username + ":" + password))}
	}
	config, err := json.Marshal(map[string]any{"auths": map[string]any{
		host:              encode("for the rest"),
		host + "/team/":   encode("for others"),
		host + "/" + name: encode(password),
	}})
	g.Expect(err).NotTo(HaveOccurred())
	dir, _ := c.server.Config.Options["credentials"].(string)
	g.Expect(os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600)).To(Succeed())
	g.Expect(c.server.Start(ctx)).To(Succeed())

	c.push(name, tag, 1, 1, mib)
	c.push("library/other", tag, 2, 1, mib)
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
	g.Expect(c.pull(ctx, "library/other", tag)).NotTo(Succeed())
}

// wrongOnesWritten replaces the credentials by wrong ones: the old ones stay in use while the upstream rejects the new.
func wrongOnesWritten(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	c.push(name, tag, 1, 1, mib)
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
	inConfiguration(g, c.server, username, "mistyped")
	for i, tag := range []string{"v2", "v3", "v4", "v5", "v6"} {
		c.upstream.SetCredential(username, password) // This revokes all tokens.
		c.push(name, tag, uint64(2+i), 1, mib)
		g.Expect(c.pull(ctx, name, tag)).To(Succeed())
	}
}

func redirected(ctx context.Context, g Gomega, c *cache) {
	for _, authentication := range []upstreamsim.Authentication{upstreamsim.Bearer, upstreamsim.Basic} {
		c.start(ctx, g, setup{upstream: upstreamsim.Options{Authentication: authentication}})
		image := c.push(name, tag, 1, 2, mib)
		c.upstream.Misbehave(upstreamsim.Faults{RedirectBlobs: true})
		g.Expect(c.pull(ctx, name, tag)).To(Succeed())
		counters := c.upstream.Counters()
		g.Expect(counters.ForeignRequests).To(BeNumerically(">=", len(image.Blobs)))
		g.Expect(counters.ForeignAuthorizations).To(BeZero())
	}
}

func foreignRealm(ctx context.Context, g Gomega, c *cache) {
	c.prepare(g, setup{})
	image := c.push(name, tag, 1, 2, mib)
	c.upstream.Misbehave(upstreamsim.Faults{ForeignRealm: true})
	g.Expect(c.server.Start(ctx)).To(Succeed())
	err := c.pull(ctx, name, tag)
	g.Expect(err).To(HaveOccurred())
	g.Expect(c.upstream.Counters().ForeignAuthorizations).To(BeZero())
	if c.implementation.Name == cacheprocess.Ours {
		g.Expect(c.use(func(client *pull.Client) error {
			_, err := client.Manifest(ctx, name, image.Digest().String())
			return err
		})).To(Satisfy(func(err error) bool { return pull.StatusOf(err) == http.StatusBadGateway }))
	}
}

func allowedRealm(ctx context.Context, g Gomega, c *cache) {
	c.prepare(g, setup{})
	c.server.Config.Options["allowedrealms"] = []string{c.upstream.ForeignHost()}
	c.push(name, tag, 1, 2, mib)
	c.upstream.Misbehave(upstreamsim.Faults{ForeignRealm: true})
	g.Expect(c.server.Start(ctx)).To(Succeed())
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
	g.Expect(c.upstream.Counters().ForeignAuthorizations).To(BeNumerically(">", 0))
}
