// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/test/cloudsim"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/ports"
	"github.com/larder-project/larder/test/secretvolume"
	"github.com/larder-project/larder/test/upstreamsim"
)

const (
	ecrHost      = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
	azureHost    = "contoso.azurecr.io"
	googleHost   = "europe-docker.pkg.dev"
	awsRole      = "arn:aws:iam::123456789012:role/puller"
	azureClient  = "22222222-2222-2222-2222-222222222222"
	googleRobot  = "puller@project.iam.gserviceaccount.com"
	cloudSubject = "gardener.cloud:workloadidentity:garden-dev:puller:uid"
	awsSecret    = "hunter2hunter2"
)

// cloudWorld is a registry of a cloud, reached through a proxy as in a company's network, with the services that issue
// its credentials.
type cloudWorld struct {
	*world
	cloud    *cloudsim.Cloud
	registry *upstreamsim.Registry
	cache    *cache
}

// newCloudWorld starts a registry whose credentials have a lifetime.
func newCloudWorld(host string, lifetime time.Duration, change ...func(*cloudsim.Options)) *cloudWorld {
	GinkgoHelper()
	w := &cloudWorld{world: &world{dir: GinkgoT().TempDir(), requests: &upstreamsim.Recorder{}}}
	var err error
	w.authority, err = pki.NewAuthority("cloud")
	Expect(err).NotTo(HaveOccurred())
	w.writeCA()
	port, err := ports.Reserve()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(port.Close)
	options := cloudsim.Options{Authority: w.authority, Lifetime: lifetime, Registries: map[string]string{host: port.Address()}}
	for _, apply := range change {
		apply(&options)
	}
	w.cloud, err = cloudsim.Start(options)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(w.cloud.Close)
	w.cloud.Trust(azureClient, cloudSubject)
	w.cloud.Trust(googleRobot, cloudSubject)

	pair, err := w.authority.Issue(pki.Request{CommonName: host, Hosts: []string{host}})
	Expect(err).NotTo(HaveOccurred())
	certificate, err := pair.TLS()
	Expect(err).NotTo(HaveOccurred())
	authentication := upstreamsim.Bearer
	if host == ecrHost {
		authentication = upstreamsim.Basic
	}
	w.registry, err = upstreamsim.Start(upstreamsim.Options{
		Authentication: authentication, Accounts: w.cloud.Accounts, TokenLifetime: time.Second, Certificate: &certificate,
		Endpoint: upstreamsim.Endpoint{Listen: port.Address(), Host: host + ":443"}, Observe: w.requests.Observe,
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(w.registry.Close)
	w.registry.Wrap(func(registry http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if host == azureHost && r.URL.Path == "/oauth2/exchange" {
				w.cloud.ServeHTTP(rw, r)
				return
			}
			registry.ServeHTTP(rw, r)
		})
	})
	return w
}

func (w *cloudWorld) write(wanted credentials.Named, previous *credentials.Named) {
	GinkgoHelper()
	Expect(secretvolume.Write(w.credentials(), credentials.Files("", wanted, previous))).To(Succeed())
}

func (w *cloudWorld) serve(host string) {
	GinkgoHelper()
	w.cache = w.start(config.Config{RemoteURL: "https://" + host, CredentialsDirectory: w.credentials(), TTL: time.Hour},
		"HTTPS_PROXY="+w.cloud.ProxyURL())
}

// key returns an access key that the cloud knows.
func (w *cloudWorld) key(name, id string) credentials.Named {
	w.cloud.AddKey(id, awsSecret+id, "")
	return credentials.Named{Name: name, Material: credentials.Material{AWS: credentials.AWSKeys{AccessKeyID: id, SecretAccessKey: awsSecret + id}}}
}

// role returns an access key that may assume the role.
func (w *cloudWorld) role(name, id string) credentials.Named {
	named := w.key(name, id)
	named.Material.AWS.RoleARN = awsRole
	w.cloud.Trust(awsRole, id)
	return named
}

func (w *cloudWorld) identity(provider credentials.Provider, lifetime time.Duration) credentials.Named {
	configs := map[credentials.Provider]string{
		credentials.ProviderAWS:   `{"roleARN":"` + awsRole + `"}`,
		credentials.ProviderAzure: `{"clientID":"` + azureClient + `","tenantID":"` + cloudsim.AzureTenant + `"}`,
		credentials.ProviderGoogle: `{"credentialsConfig":{"type":"external_account","universe_domain":"googleapis.com","audience":"` + cloudsim.GoogleAudience +
			`","subject_token_type":"urn:ietf:params:oauth:token-type:jwt","token_url":"https://sts.googleapis.com/v1/token",` +
			`"service_account_impersonation_url":"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/` + googleRobot + `:generateAccessToken"}}`,
	}
	return credentials.Named{Name: credentials.IdentityName("puller"), Material: credentials.Material{WorkloadIdentity: credentials.WorkloadIdentity{
		Provider: provider, Config: configs[provider], Token: w.cloud.IdentityToken(cloudSubject, lifetime),
	}}}
}

// identityOf returns a workload identity for another principal in place of the usual one.
func (w *cloudWorld) identityOf(provider credentials.Provider, usual, principal string) credentials.Named {
	w.cloud.Trust(principal, cloudSubject)
	named := w.identity(provider, time.Hour)
	named.Name += "-v2"
	named.Material.WorkloadIdentity.Config = strings.Replace(named.Material.WorkloadIdentity.Config, usual, principal, 1)
	return named
}

// images pushes images that the cache does not have.
func (w *cloudWorld) images(name string, n int) []string {
	var images []string
	for i := range n {
		tag := fmt.Sprintf("%s-%d", name, i)
		w.registry.Push("team/app", tag, upstreamsim.RandomImage(rand.Uint64(), 1, 1024))
		images = append(images, "team/app:"+tag)
	}
	return images
}

// pullFor pulls new images one after the other, and returns the number of pulls. None fails.
func (w *cloudWorld) pullFor(name string, duration time.Duration) int {
	GinkgoHelper()
	images := w.images(name, 200)
	end := time.Now().Add(duration)
	for i, image := range images {
		if time.Now().After(end) {
			return i
		}
		_, err := w.cache.pull(image)
		Expect(err).NotTo(HaveOccurred(), "pull %d", i)
		time.Sleep(50 * time.Millisecond) // Pulls go on for longer than there are images otherwise.
	}
	return len(images)
}

func (w *cloudWorld) state() credentials.Report {
	return *w.cache.reports(NewGomega(func(string, ...int) {})).Report
}

// silent verifies that no secret is in an output of the cache.
func (w *cloudWorld) silent() {
	GinkgoHelper()
	w.cache.expectSilent(awsSecret, "eyJ", "ya29", "entra-", "ecr-", "which is not valid")
}

var _ = Describe("credentials of clouds", func() {
	const lifetime = 4 * time.Second

	DescribeTable("are renewed well before they expire while clients pull",
		func(host, operation string, material func(*cloudWorld) credentials.Named) {
			w := newCloudWorld(host, lifetime)
			w.write(material(w), nil)
			w.serve(host)
			Expect(w.pullFor("a", 5*lifetime/2)).To(BeNumerically(">", 10))
			Expect(w.state().State).To(Equal(credentials.StateActive))
			Expect(w.cloud.Requests()[operation]).To(And(BeNumerically(">=", 3), BeNumerically("<=", 7)), "a credential is used for about two thirds of its lifetime")
			_, metrics := w.cache.debug("/metrics")
			seconds, err := strconv.ParseFloat(match(metrics, `registry_proxy_credentials_expiry_seconds\{scope="",upstream="[^"]*"\} (\S+)`), 64)
			Expect(err).NotTo(HaveOccurred())
			Expect(time.Unix(int64(seconds), 0)).To(BeTemporally("~", time.Now().Add(lifetime/2), lifetime), "the expiry of the last one")
			w.silent()
		},
		Entry("ECR, access key", ecrHost, cloudsim.GetToken, func(w *cloudWorld) credentials.Named { return w.key("v1", "AKIA0000000000000001") }),
		Entry("ECR, access key with a role", ecrHost, cloudsim.AssumeRole, func(w *cloudWorld) credentials.Named { return w.role("v1", "AKIA0000000000000001") }),
		Entry("ECR, workload identity", ecrHost, cloudsim.AssumeRoleWithIdentity, func(w *cloudWorld) credentials.Named {
			w.cloud.Trust(awsRole, cloudSubject)
			return w.identity(credentials.ProviderAWS, time.Hour)
		}),
		Entry("ACR, workload identity", azureHost, cloudsim.ACRExchange, func(w *cloudWorld) credentials.Named { return w.identity(credentials.ProviderAzure, time.Hour) }),
		Entry("Artifact Registry, workload identity", googleHost, cloudsim.GoogleImpersonate, func(w *cloudWorld) credentials.Named { return w.identity(credentials.ProviderGoogle, time.Hour) }),
	)

	It("are issued through the connection to the upstream: its CA bundle and its credential for the proxy", func() {
		account := upstreamsim.Account{Username: "cache", Password: proxyPassword}
		w := newCloudWorld(ecrHost, lifetime, func(o *cloudsim.Options) { o.ProxyAccount = account })
		w.write(w.role("v1", "AKIA0000000000000001"), nil)
		dir := filepath.Join(w.dir, "connection")
		write := func(password string) {
			Expect(secretvolume.Write(dir, map[string][]byte{
				"bundle.crt": w.authority.Certificate, "proxy-username": []byte(account.Username), "proxy-password": []byte(password),
			})).To(Succeed())
		}
		write("outdated")
		w.cache = w.start(config.Config{
			RemoteURL: "https://" + ecrHost, CredentialsDirectory: w.credentials(), TTL: time.Hour,
			Connection: config.Connection{
				CABundleFile:      filepath.Join(dir, "bundle.crt"),
				ProxyUsernameFile: filepath.Join(dir, "proxy-username"), ProxyPasswordFile: filepath.Join(dir, "proxy-password"),
			},
		}, "HTTPS_PROXY="+w.cloud.ProxyURL(), "SSL_CERT_FILE=/dev/null", "SSL_CERT_DIR=/dev/null")
		Eventually(w.state).Should(And(HaveField("State", credentials.StatePending),
			HaveField("Message", "issuing failed: sts:AssumeRole: the proxy rejects its credential with status 407")))
		write(account.Password)
		Eventually(w.state).Should(HaveField("State", credentials.StateActive))
		Expect(w.pullFor("a", 3*lifetime/2)).To(BeNumerically(">", 5))
		w.silent()
		Expect(string(w.cache.Err.Contents()) + string(w.cache.Out.Contents())).NotTo(ContainSubstring(proxyPassword))
	})

	It("uses the token that Gardener replaced, without a rotation", func() {
		w := newCloudWorld(googleHost, lifetime)
		w.write(w.identity(credentials.ProviderGoogle, 5*time.Second), nil)
		w.serve(googleHost)
		Eventually(w.state).Should(HaveField("State", credentials.StateActive))
		since := w.state().Since
		w.write(w.identity(credentials.ProviderGoogle, time.Hour), nil)
		w.pullFor("a", 2*lifetime)
		Expect(w.state()).To(And(HaveField("State", credentials.StateActive), HaveField("Since", since), HaveField("PendingSecretName", "")))
		w.silent()
	})

	DescribeTable("are rotated while clients pull, after which the old ones can be revoked",
		func(host string, first, later func(*cloudWorld) credentials.Named, revoke func(*cloudWorld)) {
			w := newCloudWorld(host, time.Hour)
			v1, v2 := first(w), later(w)
			w.write(v1, nil)
			w.serve(host)
			failed := w.cache.pullAll(w.images("a", 24), func(i int) {
				switch i {
				case 8:
					w.write(v2, &v1)
					Eventually(w.state).Should(And(
						HaveField("SecretName", v2.Name), HaveField("PendingSecretName", ""), HaveField("State", credentials.StateActive)))
					revoke(w)
				case 16:
					w.write(v2, nil)
				}
			})
			Expect(failed).To(BeEmpty())
			Expect(w.state()).To(And(HaveField("SecretName", v2.Name), HaveField("State", credentials.StateActive)))
			w.silent()
		},
		Entry("an access key, by one with a role", ecrHost,
			func(w *cloudWorld) credentials.Named { return w.key("v1", "AKIA0000000000000001") },
			func(w *cloudWorld) credentials.Named { return w.role("v2", "AKIA0000000000000002") },
			func(w *cloudWorld) { w.cloud.RemoveKey("AKIA0000000000000001") }),
		Entry("an access key, by a workload identity of the same name", ecrHost,
			func(w *cloudWorld) credentials.Named { return w.key("puller", "AKIA0000000000000001") },
			func(w *cloudWorld) credentials.Named {
				w.cloud.Trust(awsRole, cloudSubject)
				return w.identity(credentials.ProviderAWS, time.Hour)
			},
			func(w *cloudWorld) { w.cloud.RemoveKey("AKIA0000000000000001") }),
		Entry("a workload identity of Azure, by one with another client", azureHost,
			func(w *cloudWorld) credentials.Named { return w.identity(credentials.ProviderAzure, time.Hour) },
			func(w *cloudWorld) credentials.Named {
				return w.identityOf(credentials.ProviderAzure, azureClient, "33333333-3333-3333-3333-333333333333")
			},
			func(w *cloudWorld) { w.cloud.Trust(azureClient, "nobody") }),
		Entry("a workload identity of Google, by one with another service account", googleHost,
			func(w *cloudWorld) credentials.Named { return w.identity(credentials.ProviderGoogle, time.Hour) },
			func(w *cloudWorld) credentials.Named {
				return w.identityOf(credentials.ProviderGoogle, googleRobot, "other@project.iam.gserviceaccount.com")
			},
			func(w *cloudWorld) { w.cloud.Trust(googleRobot, "nobody") }),
	)

	It("keeps the old access key while the cloud rejects the new one, and says why", func() {
		w := newCloudWorld(ecrHost, time.Hour)
		v1, v2 := w.key("v1", "AKIA0000000000000001"), w.key("v2", "AKIA0000000000000002")
		w.cloud.DenyKey("AKIA0000000000000002", awsSecret+"AKIA0000000000000002")
		w.write(v1, nil)
		w.serve(ecrHost)
		Eventually(w.state).Should(HaveField("State", credentials.StateActive))
		w.write(v2, &v1)
		Eventually(w.state).Should(And(HaveField("SecretName", "v1"), HaveField("PendingSecretName", "v2"), HaveField("State", credentials.StateRejected),
			HaveField("Message", "issuing failed: ecr:GetAuthorizationToken: AccessDeniedException (status 400)")))
		w.pullFor("a", time.Second)
		w.silent()
	})

	It("takes a cloud that does not respond for no result, and recovers", func() {
		w := newCloudWorld(ecrHost, time.Hour)
		w.cloud.Fail(cloudsim.GetToken, cloudsim.Failure{Status: 503, Code: "ServiceUnavailable"})
		w.write(w.key("v1", "AKIA0000000000000001"), nil)
		w.serve(ecrHost)
		Eventually(w.state).Should(And(HaveField("State", credentials.StatePending),
			HaveField("Message", "issuing failed: ecr:GetAuthorizationToken: ServiceUnavailable (status 503)")))
		w.cloud.Fail(cloudsim.GetToken, cloudsim.Failure{})
		Eventually(w.state).Should(HaveField("State", credentials.StateActive))
		w.pullFor("a", time.Second)
	})

	It("reports a key that was deleted while its last token is still valid", func() {
		w := newCloudWorld(ecrHost, 20*time.Second)
		w.write(w.key("v1", "AKIA0000000000000001"), nil)
		w.serve(ecrHost)
		Eventually(w.state).Should(HaveField("State", credentials.StateActive))
		w.cloud.RemoveKey("AKIA0000000000000001")
		Eventually(w.state).Should(And(HaveField("State", credentials.StateRejected),
			HaveField("Message", "issuing failed: ecr:GetAuthorizationToken: UnrecognizedClientException (status 400)")))
		Expect(w.cloud.Accounts()).NotTo(BeEmpty())
		w.pullFor("a", 0)
		_, err := w.cache.pull(w.images("b", 1)[0])
		Expect(err).NotTo(HaveOccurred())
	})
})
