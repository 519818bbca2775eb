// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"

	"github.com/larder-project/larder/test/landscape/upstream"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/upstreamsim"
)

var (
	puller = upstreamsim.Account{Username: "robot$puller", Password: `pull: "#%*'`}
	pusher = upstreamsim.Account{Username: "pusher", Password: "push"}

	manifest = []upstreamsim.Kind{upstreamsim.ManifestGet, upstreamsim.ManifestHead}
)

var _ = Describe("Registries", func() {
	var (
		ctx        context.Context
		options    upstream.Options
		registries *upstream.Registries
		recorder   *upstreamsim.Recorder
		log        *gbytes.Buffer
	)

	client := func(account upstreamsim.Account) upstream.Client {
		return upstream.Client{Account: account, CA: options.Authority.Certificate, IP: "127.0.0.1"}
	}

	BeforeEach(func() {
		ctx = context.Background()
		authority, err := pki.NewAuthority("upstream")
		Expect(err).NotTo(HaveOccurred())
		recorder = &upstreamsim.Recorder{}
		log = gbytes.NewBuffer()
		options = upstream.Options{
			Dir:       GinkgoT().TempDir(),
			Authority: authority,
			Private:   upstreamsim.Endpoint{Listen: "127.0.0.1:0", Host: "private.example.test"},
			Token:     upstreamsim.Endpoint{Listen: "127.0.0.1:0", Host: "auth.example.test"},
			Basic:     upstreamsim.Endpoint{Listen: "127.0.0.1:0", Host: "basic.example.test"},
			Puller:    puller,
			Pusher:    pusher,
			Log:       log,
			Observe:   func(_ string, request upstreamsim.Request) { recorder.Observe(request) },
		}
		options.PullersFile = filepath.Join(options.Dir, "pullers.json")
	})

	JustBeforeEach(func() {
		var err error
		registries, err = upstream.Start(options)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() error { return registries.Close() })
	})

	for _, server := range []string{upstream.Private, upstream.Basic} {
		Describe(server, func() {
			host := func() string {
				if server == upstream.Private {
					return registries.PrivateHost
				}
				return registries.BasicHost
			}

			It("serves a pushed image to its puller and logs the user", func() {
				image, err := random.Image(1024, 2)
				Expect(err).NotTo(HaveOccurred())
				reference := host() + "/team/app:v1"

				Expect(client(pusher).Push(ctx, reference, image)).To(Succeed())
				recorder.Reset()

				Expect(client(puller).Pull(ctx, reference)).To(Equal(digestOf(image)))

				Expect(recorder.Requests(manifest...)).NotTo(BeEmpty())
				Expect(recorder.Requests(upstreamsim.BlobGet)).To(HaveLen(3), "two layers and the config")
				Expect(recorder.Requests(upstreamsim.Push)).To(BeEmpty())
				for _, request := range recorder.Requests(append(manifest, upstreamsim.BlobGet)...) {
					Expect(request.User).To(Equal(puller.Username))
					Expect(request.Status).To(Equal(http.StatusOK))
					Expect(request.Client).To(Equal("127.0.0.1"))
				}
				Expect(log).To(gbytes.Say(`time=\S+ level=INFO msg=request registry=%s client=127.0.0.1 user=robot\$puller method=GET path=/v2/team/app/manifests/v1 status=200`, server))
				Expect(log.Contents()).NotTo(ContainSubstring(puller.Password))
			})

			DescribeTable("rejects", func(account upstreamsim.Account) {
				_, err := client(account).Pull(ctx, host()+"/team/app:v1")
				Expect(statusOf(err)).To(Equal(http.StatusUnauthorized), "%v", err)
			},
				Entry("a wrong password", upstreamsim.Account{Username: puller.Username, Password: "wrong"}),
				Entry("an unknown user", upstreamsim.Account{Username: "unknown", Password: puller.Password}),
				Entry("an anonymous client", upstreamsim.Account{}),
			)

			It("follows the file of pullers while it runs", func() {
				image, err := random.Image(1024, 1)
				Expect(err).NotTo(HaveOccurred())
				Expect(client(pusher).Push(ctx, host()+"/team/app:v1", image)).To(Succeed())
				_, err = client(puller).Pull(ctx, host()+"/team/app:v1")
				Expect(err).NotTo(HaveOccurred())

				second := upstreamsim.Account{Username: "robot$second", Password: "2"}
				Expect(upstream.WritePullers(options.PullersFile, second)).To(Succeed())
				Expect(client(second).Pull(ctx, host()+"/team/app:v1")).To(Equal(digestOf(image)))
				_, err = client(puller).Pull(ctx, host()+"/team/app:v1")
				Expect(statusOf(err)).To(Equal(http.StatusUnauthorized))
				Expect(client(pusher).Push(ctx, host()+"/team/app:v2", image)).To(Succeed())
			})

			It("keeps its content over a restart", func() {
				image, err := random.Image(1024, 1)
				Expect(err).NotTo(HaveOccurred())
				Expect(client(pusher).Push(ctx, host()+"/team/app:v1", image)).To(Succeed())

				Expect(registries.Close()).To(Succeed())
				registries, err = upstream.Start(options)
				Expect(err).NotTo(HaveOccurred())

				Expect(client(puller).Pull(ctx, host()+"/team/app:v1")).To(Equal(digestOf(image)))
			})
		})
	}

	It("rejects a push by the puller to the private registry", func() {
		image, err := random.Image(1024, 1)
		Expect(err).NotTo(HaveOccurred())
		err = client(puller).Push(ctx, registries.PrivateHost+"/team/app:v1", image)
		Expect(statusOf(err)).To(Equal(http.StatusUnauthorized), "%v", err)
	})

	When("the token server has no address of its own", func() {
		BeforeEach(func() { options.Token = upstreamsim.Endpoint{} })

		It("is served by the private registry", func() {
			image, err := random.Image(1024, 1)
			Expect(err).NotTo(HaveOccurred())
			Expect(client(pusher).Push(ctx, registries.PrivateHost+"/team/app:v1", image)).To(Succeed())
			Expect(recorder.Requests(upstreamsim.Token)).NotTo(BeEmpty())
		})
	})

	When("an endpoint has no host", func() {
		BeforeEach(func() {
			options.Private, options.Token = upstreamsim.Endpoint{Listen: "127.0.0.1:0"}, upstreamsim.Endpoint{}
		})

		It("uses the bound address", func() {
			image, err := random.Image(1024, 1)
			Expect(err).NotTo(HaveOccurred())
			Expect(registries.PrivateHost).To(MatchRegexp(`^127\.0\.0\.1:\d+$`))
			Expect(client(pusher).Push(ctx, registries.PrivateHost+"/team/app:v1", image)).To(Succeed())
		})
	})

	It("fails if an address is in use", func() {
		taken := options
		_, port, err := net.SplitHostPort(registries.BasicHost)
		Expect(err).NotTo(HaveOccurred())
		taken.Basic.Listen = net.JoinHostPort("127.0.0.1", port)
		_, err = upstream.Start(taken)
		Expect(err).To(MatchError(ContainSubstring("start the basic registry")))
	})

	It("runs until its context ends", func() {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan error)
		go func() { done <- upstream.Run(ctx, options) }()
		Consistently(done, "200ms").ShouldNot(Receive())
		cancel()
		Eventually(done).Should(Receive(BeNil()))
	})
})

func digestOf(image v1.Image) v1.Hash {
	GinkgoHelper()
	digest, err := image.Digest()
	Expect(err).NotTo(HaveOccurred())
	return digest
}

func statusOf(err error) int {
	var failure *transport.Error
	if !errors.As(err, &failure) {
		return 0
	}
	return failure.StatusCode
}
