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
)

var (
	puller = upstream.Account{Username: "robot$puller", Password: `pull: "#%*'`}
	pusher = upstream.Account{Username: "pusher", Password: "push"}
)

var _ = Describe("Registries", func() {
	var (
		ctx        context.Context
		options    upstream.Options
		registries *upstream.Registries
		recorder   *upstream.Recorder
		log        *gbytes.Buffer
	)

	client := func(account upstream.Account) upstream.Client {
		return upstream.Client{Account: account, CA: options.CA.Certificate, IP: "127.0.0.1"}
	}

	BeforeEach(func() {
		ctx = context.Background()
		authority, err := upstream.NewAuthority()
		Expect(err).NotTo(HaveOccurred())
		recorder = &upstream.Recorder{}
		log = gbytes.NewBuffer()
		options = upstream.Options{
			Dir:     GinkgoT().TempDir(),
			CA:      authority,
			Private: upstream.Endpoint{Listen: "127.0.0.1:0", Host: "private.example.test"},
			Token:   upstream.Endpoint{Listen: "127.0.0.1:0", Host: "auth.example.test"},
			Basic:   upstream.Endpoint{Listen: "127.0.0.1:0", Host: "basic.example.test"},
			Puller:  puller,
			Pusher:  pusher,
			Log:     log,
			Observe: recorder.Observe,
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

			It("gives what was pushed to who has a password, and says who came", func() {
				image, err := random.Image(1024, 2)
				Expect(err).NotTo(HaveOccurred())
				reference := host() + "/team/app:v1"

				Expect(client(pusher).Push(ctx, reference, image)).To(Succeed())
				recorder.Reset()

				Expect(client(puller).Pull(ctx, reference)).To(Equal(digestOf(image)))

				Expect(recorder.Requests(upstream.KindManifest)).NotTo(BeEmpty())
				Expect(recorder.Requests(upstream.KindBlob)).To(HaveLen(3), "two layers and the config")
				Expect(recorder.Requests(upstream.KindUpload)).To(BeEmpty())
				for _, request := range recorder.Requests(upstream.KindManifest, upstream.KindBlob) {
					Expect(request.Server).To(Equal(server))
					Expect(request.User).To(Equal(puller.Username))
					Expect(request.Status).To(Equal(http.StatusOK))
					Expect(request.Client).To(Equal("127.0.0.1"))
				}
				Expect(log).To(gbytes.Say(`time=\S+ level=INFO msg=request registry=%s client=127.0.0.1 user=robot\$puller method=GET path=/v2/team/app/manifests/v1 status=200`, server))
				Expect(log.Contents()).NotTo(ContainSubstring(puller.Password))
			})

			DescribeTable("turns away", func(account upstream.Account) {
				_, err := client(account).Pull(ctx, host()+"/team/app:v1")
				Expect(statusOf(err)).To(Equal(http.StatusUnauthorized), "%v", err)
			},
				Entry("a wrong password", upstream.Account{Username: puller.Username, Password: "wrong"}),
				Entry("an unknown user", upstream.Account{Username: "nobody", Password: puller.Password}),
				Entry("nobody at all", upstream.Account{}),
			)

			It("knows new users, and forgets others, while it runs", func() {
				image, err := random.Image(1024, 1)
				Expect(err).NotTo(HaveOccurred())
				Expect(client(pusher).Push(ctx, host()+"/team/app:v1", image)).To(Succeed())
				_, err = client(puller).Pull(ctx, host()+"/team/app:v1")
				Expect(err).NotTo(HaveOccurred())

				second := upstream.Account{Username: "robot$second", Password: "2"}
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

	It("does not let the puller push to the private registry", func() {
		image, err := random.Image(1024, 1)
		Expect(err).NotTo(HaveOccurred())
		err = client(puller).Push(ctx, registries.PrivateHost+"/team/app:v1", image)
		Expect(statusOf(err)).To(Equal(http.StatusUnauthorized), "%v", err)
	})

	When("the token server has no address of its own", func() {
		BeforeEach(func() { options.Token = upstream.Endpoint{} })

		It("is served by the private registry", func() {
			image, err := random.Image(1024, 1)
			Expect(err).NotTo(HaveOccurred())
			Expect(client(pusher).Push(ctx, registries.PrivateHost+"/team/app:v1", image)).To(Succeed())
			Expect(recorder.Requests(upstream.KindToken)).NotTo(BeEmpty())
		})
	})

	When("no host is named", func() {
		BeforeEach(func() {
			options.Private, options.Token = upstream.Endpoint{Listen: "127.0.0.1:0"}, upstream.Endpoint{}
		})

		It("is called by the address that was bound", func() {
			image, err := random.Image(1024, 1)
			Expect(err).NotTo(HaveOccurred())
			Expect(registries.PrivateHost).To(MatchRegexp(`^127\.0\.0\.1:\d+$`))
			Expect(client(pusher).Push(ctx, registries.PrivateHost+"/team/app:v1", image)).To(Succeed())
		})
	})

	It("fails when an address is taken, and lets go of those it had", func() {
		taken := options
		_, port, err := net.SplitHostPort(registries.BasicHost)
		Expect(err).NotTo(HaveOccurred())
		taken.Basic.Listen = net.JoinHostPort("127.0.0.1", port)
		_, err = upstream.Start(taken)
		Expect(err).To(MatchError(ContainSubstring("listening for the basic registry")))
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
