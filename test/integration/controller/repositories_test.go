// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	securityv1alpha1 "github.com/gardener/gardener/pkg/apis/security/v1alpha1"
	securityv1alpha1constants "github.com/gardener/gardener/pkg/apis/security/v1alpha1/constants"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gomegatypes "github.com/onsi/gomega/types"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/pkg/cacheserver/status"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/upstream"
)

var _ = Describe("Several credentials of a cache", func() {
	const (
		host   = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
		secret = "hunter2"
	)
	var (
		name         = upstream.Upstream(host).ResourceName()
		teamA, teamB = []string{"team-a"}, []string{"team-b/app", "team-b/base"}
		cache        = v1alpha3.RegistryCache{
			Upstream: host, SecretReferenceName: new("default"), HTTP: &v1alpha3.HTTP{TLS: new(false)},
			Credentials: []v1alpha3.RepositoryCredential{
				{Repositories: teamA, SecretReferenceName: "a"}, {Repositories: teamB, SecretReferenceName: "b"},
			},
		}
	)
	accessKey := func(version string) map[string]string {
		return map[string]string{"accessKeyID": "AKIA0000000000000001", "secretAccessKey": secret + version}
	}

	It("are staged and reported each by itself, without new pods", func(ctx SpecContext) {
		s := newShoot(ctx)
		identity := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: s.namespace, Name: v1beta1constants.ReferencedWorkloadIdentityPrefix + "puller",
				Labels: map[string]string{securityv1alpha1constants.LabelWorkloadIdentityProvider: "aws"},
			},
			StringData: map[string]string{
				securityv1alpha1constants.DataKeyConfig: `{"roleARN":"arn:aws:iam::123456789012:role/puller"}`, securityv1alpha1constants.DataKeyToken: secret + "-first",
			},
		}
		Expect(testClient.Create(ctx, identity)).To(Succeed())
		s.update(ctx, func(shoot *gardencorev1beta1.Shoot) {
			shoot.Spec.Resources = append(shoot.Spec.Resources, gardencorev1beta1.NamedResourceReference{
				Name: "default", ResourceRef: autoscalingv1.CrossVersionObjectReference{
					APIVersion: securityv1alpha1.SchemeGroupVersion.String(), Kind: "WorkloadIdentity", Name: "puller",
				},
			})
		})
		s.refer(ctx, "a", "a-v1", accessKey("a-v1"))
		s.refer(ctx, "b", "b-v1", accessKey("b-v1"))
		rotateA := func(version string) *extensionsv1alpha1.Extension {
			GinkgoHelper()
			s.createSecret(ctx, version, accessKey(version), true)
			s.update(ctx, func(shoot *gardencorev1beta1.Shoot) { shoot.Spec.Resources[1].ResourceRef.Name = version })
			return s.reconcile(ctx, cache)
		}

		deployed := inShoot(&corev1.Secret{}, name+"-credentials")
		statefulSet := inShoot(&appsv1.StatefulSet{}, name)
		// expectDeployed waits for the names of the credential of team A.
		expectDeployed := func(wanted, previous string) {
			GinkgoHelper()
			Eventually(ctx, func(g Gomega) {
				g.Expect(get(deployed)(ctx)).To(Succeed())
				g.Expect(get(statefulSet)(ctx)).To(Succeed())
				prefix := credentials.Prefix(teamA)
				got, before := credentials.FromFiles(prefix, deployed.Data)
				g.Expect(got).To(HaveValue(HaveField("Name", wanted)))
				g.Expect(got.Material.AWS.SecretAccessKey).To(Equal(secret + wanted))
				if previous == "" {
					g.Expect(before).To(BeNil())
				} else {
					g.Expect(before).To(HaveValue(HaveField("Name", previous)))
				}
				g.Expect(statefulSet.Annotations).To(HaveKeyWithValue(component.RepositorySecretNameAnnotation(teamA), cmp.Or(previous, wanted)))

				for prefix, other := range map[string]string{"": "WorkloadIdentity/puller", credentials.Prefix(teamB): "b-v1"} {
					got, before := credentials.FromFiles(prefix, deployed.Data)
					g.Expect(got).To(HaveValue(HaveField("Name", other)))
					g.Expect(before).To(BeNil())
				}
				g.Expect(statefulSet.Annotations).To(HaveKeyWithValue(component.SecretNameAnnotation, "WorkloadIdentity/puller"))
				g.Expect(statefulSet.Annotations).To(HaveKeyWithValue(component.RepositorySecretNameAnnotation(teamB), "b-v1"))
			}).Should(Succeed())
		}

		By("First credentials")
		extension := s.reconcile(ctx, cache)
		expectDeployed("a-v1", "")
		generation := statefulSet.Generation
		replica := newReplica(ctx, host)
		// report has the replica report the credential of team A; the others are accepted.
		report := func(a credentials.Report) {
			replica.sayStatus(status.Report{
				Credentials: &credentials.Report{SecretName: "WorkloadIdentity/puller", State: credentials.StateActive},
				RepositoryCredentials: map[string]credentials.Report{
					credentials.Prefix(teamA): a, credentials.Prefix(teamB): {SecretName: "b-v1", State: credentials.StateActive},
				},
			})
		}
		cacheStatus := func(g Gomega) registry.RegistryCacheStatus {
			g.Expect(get(extension)(ctx)).To(Succeed())
			found := statusOf(extension)
			g.Expect(found.Caches).To(HaveLen(1))
			return found.Caches[0]
		}
		expectStatus := func(ctx context.Context, a gomegatypes.GomegaMatcher) {
			GinkgoHelper()
			Eventually(ctx, cacheStatus).Should(And(
				HaveField("Credentials", HaveValue(And(HaveField("SecretName", "WorkloadIdentity/puller"), HaveField("State", registry.CredentialsActive)))),
				HaveField("RepositoryCredentials", HaveExactElements(
					And(HaveField("Repositories", teamA), HaveField("Credentials", a)),
					And(HaveField("Repositories", teamB), HaveField("Credentials", And(HaveField("SecretName", "b-v1"), HaveField("State", registry.CredentialsActive)))),
				)),
			))
			// No value is in what owners read.
			text, err := json.Marshal(extension)
			Expect(err).NotTo(HaveOccurred())
			Expect(string(text)).NotTo(Or(ContainSubstring(secret), ContainSubstring("AKIA")))
		}
		report(credentials.Report{SecretName: "a-v1", State: credentials.StateActive})
		expectStatus(ctx, And(HaveField("SecretName", "a-v1"), HaveField("State", registry.CredentialsActive)))

		By("A new credential of one team, which the cloud rejects")
		extension = rotateA("a-v2")
		expectDeployed("a-v2", "a-v1")
		report(credentials.Report{
			SecretName: "a-v1", PendingSecretName: "a-v2", State: credentials.StateRejected, UpstreamStatusCode: http.StatusBadRequest,
			Message: "issuing failed: ecr:GetAuthorizationToken: UnrecognizedClientException (status 400)",
		})
		expectStatus(ctx, And(HaveField("SecretName", "a-v1"), HaveField("PendingSecretName", "a-v2"), HaveField("State", registry.CredentialsRejected)))
		Eventually(ctx, func(g Gomega) {
			g.Expect(get(extension)(ctx)).To(Succeed())
			g.Expect(extension.Status.Conditions).To(ContainElement(And(
				HaveField("Type", gardencorev1beta1.ShootSystemComponentsHealthy), HaveField("Codes", ContainElement(gardencorev1beta1.ErrorInfraUnauthorized)),
				HaveField("Message", ContainSubstring("The upstream "+host+`/team-a rejects the Secret "a-v2"`)))))
		}).Should(Succeed())

		By("A valid one")
		extension = rotateA("a-v3")
		expectDeployed("a-v3", "a-v1")
		report(credentials.Report{SecretName: "a-v3", State: credentials.StateActive})
		expectStatus(ctx, And(HaveField("SecretName", "a-v3"), HaveField("PendingSecretName", ""), HaveField("State", registry.CredentialsActive)))
		expectDeployed("a-v3", "")

		By("A new token of the workload identity, which is no rotation")
		Expect(get(identity)(ctx)).To(Succeed())
		identity.Data[securityv1alpha1constants.DataKeyToken] = []byte(secret + "-second")
		Expect(testClient.Update(ctx, identity)).To(Succeed())
		extension = s.reconcile(ctx, cache)
		Eventually(ctx, func(g Gomega) {
			g.Expect(get(deployed)(ctx)).To(Succeed())
			got, previous := credentials.FromFiles("", deployed.Data)
			g.Expect(got.Material.WorkloadIdentity.Token).To(Equal(secret + "-second"))
			g.Expect(previous).To(BeNil())
		}).Should(Succeed())
		expectStatus(ctx, And(HaveField("SecretName", "a-v3"), HaveField("State", registry.CredentialsActive)))
		expectDeployed("a-v3", "")
		Expect(statefulSet.Generation).To(Equal(generation), "no pod has been replaced")
	})
})
