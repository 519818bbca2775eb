// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	kubernetesutils "github.com/gardener/gardener/pkg/utils/kubernetes"
	secretsutils "github.com/gardener/gardener/pkg/utils/secrets"
	secretsmanager "github.com/gardener/gardener/pkg/utils/secrets/manager"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"

	component "github.com/larder-project/larder/pkg/component/cache"
)

const (
	// certificateValidity is the validity of server and client certificates.
	certificateValidity = 90 * 24 * time.Hour
	// nodeCertificateName is the name of the client certificate of the nodes.
	nodeCertificateName = "registry-cache-node"
)

// certificates are the server certificates of the caches that serve TLS, and the client certificate of the nodes.
type certificates struct {
	// caBundleName is the name of the Secret with the bundle of CA certificates. It is nil if no cache serves TLS.
	caBundleName *string
	// caBundle is that bundle in PEM format.
	caBundle []byte
	// nodeName is the name of the Secret with the client certificate of the nodes. It is nil if no cache wants one.
	nodeName *string
	// nodeCreated is when that certificate was created, and onNodes means that all nodes have it.
	nodeCreated time.Time
	onNodes     bool
	// oldMayGo means that all certificates are signed by the current CA, that the nodes have theirs, and that the old
	// CA can be removed once the caches serve these certificates.
	oldMayGo bool

	secrets map[string]*corev1.Secret
	manager secretsmanager.Interface
}

// certificateRequest contains the inputs for certificates.
type certificateRequest struct {
	cluster *extensionscontroller.Cluster
	// caches get certificates for the addresses of their Services.
	caches    []deployment
	addresses map[string]net.IP
	// keepsNode means that the nodes keep their client certificate, even if no cache wants one.
	keepsNode bool
	// withoutOld means that an old CA is no longer needed.
	withoutOld bool
}

// issueCertificates issues a server certificate to each cache that serves TLS, or renews one that is about to expire.
func (a *Actuator) issueCertificates(ctx context.Context, log logr.Logger, request certificateRequest) (certificates, error) {
	namespace, shoot := request.cluster.ObjectMeta.Name, request.cluster.Shoot
	due, hasOld, err := a.dueRotation(ctx, namespace, shoot)
	if err != nil {
		return certificates{}, err
	}
	rotations := due
	if hasOld && !request.withoutOld {
		rotations = nil // Only two CAs fit into the bundle.
	}
	manager, err := a.secretsManager(ctx, log, namespace, rotations)
	if err != nil {
		return certificates{}, err
	}
	issued := certificates{secrets: map[string]*corev1.Secret{}, manager: manager}
	servers := serverCertificates(request.caches, request.addresses)
	if len(servers) == 0 {
		return issued, nil
	}

	options := []secretsmanager.GenerateOption{secretsmanager.Persist(), secretsmanager.Rotate(secretsmanager.KeepOld)}
	if request.withoutOld && len(rotations) == 0 {
		options = append(options, secretsmanager.IgnoreOldSecrets())
	}
	current, err := manager.Generate(ctx, certificateAuthority(), options...)
	if err != nil {
		return certificates{}, fmt.Errorf("issue CA certificate: %w", err)
	}
	signingCA, err := a.signingCA(manager, shoot)
	if err != nil {
		return certificates{}, err
	}
	for _, server := range servers {
		if issued.secrets[server.Name], err = manager.Generate(ctx, server, signingCA); err != nil {
			return certificates{}, fmt.Errorf("issue certificate %s: %w", server.Name, err)
		}
	}
	if request.keepsNode || slices.ContainsFunc(request.caches, deployment.onlyForNodes) {
		node, err := manager.Generate(ctx, nodeCertificate(), signingCA)
		if err != nil {
			return certificates{}, fmt.Errorf("issue certificate %s: %w", nodeCertificateName, err)
		}
		issued.nodeName, issued.nodeCreated = &node.Name, node.CreationTimestamp.Time
		issued.onNodes = nodesHaveCertificate(shoot, issued.nodeCreated, a.Clock.Now())
	}
	bundle, found := manager.Get(caName)
	if !found {
		return certificates{}, fmt.Errorf("CA bundle %s does not exist", caName)
	}
	issued.caBundleName, issued.caBundle = &bundle.Name, bundle.Data[secretsutils.DataKeyCertificateBundle]
	issued.oldMayGo = hasOld && (mayDropOld(shoot) || len(due) > 0) && nodesHave(shoot, current.CreationTimestamp.Time, a.Clock.Now()) &&
		(issued.nodeName == nil || nodesHave(shoot, issued.nodeCreated, a.Clock.Now()))
	return issued, nil
}

// dropOldCA removes the old CA, or replaces it with the next one, if the caches serve certificates of the current CA:
// if these were deployed at least certificatePropagation ago.
func (a *Actuator) dropOldCA(ctx context.Context, log logr.Logger, request certificateRequest, issued certificates) (certificates, error) {
	if !issued.oldMayGo {
		return issued, nil
	}
	since, err := a.deployedSince(ctx, request.cluster.ObjectMeta.Name)
	if err != nil {
		return certificates{}, err
	}
	if since.IsZero() || a.Clock.Since(since) < certificatePropagation {
		log.Info("Keeping old CA in the bundle until the caches serve certificates of the new one")
		return issued, nil
	}
	request.withoutOld = true
	return a.issueCertificates(ctx, log, request)
}

// deleteCertificates deletes all certificates.
func (a *Actuator) deleteCertificates(ctx context.Context, log logr.Logger, cluster *extensionscontroller.Cluster) error {
	manager, err := a.secretsManager(ctx, log, cluster.ObjectMeta.Name, nil)
	if err != nil {
		return err
	}
	return certificates{manager: manager}.deleteUnused(ctx)
}

// deleteUnused deletes the certificates that are no longer in use.
func (c certificates) deleteUnused(ctx context.Context) error {
	if err := c.manager.Cleanup(ctx); err != nil {
		return fmt.Errorf("delete unused certificates: %w", err)
	}
	return nil
}

// of returns the certificate of a cache, nil if it has none.
func (c certificates) of(cache deployment) *component.Certificate {
	secret, ok := c.secrets[certificateName(cache)]
	if !ok {
		return nil
	}
	return &component.Certificate{
		Certificate: secret.Data[secretsutils.DataKeyCertificate],
		Key:         secret.Data[secretsutils.DataKeyPrivateKey],
	}
}

// serverCertificates returns the certificates to issue: one for the Service of each cache that serves TLS.
func serverCertificates(caches []deployment, addresses map[string]net.IP) []*secretsutils.CertificateSecretConfig {
	var servers []*secretsutils.CertificateSecretConfig
	for _, cache := range caches {
		if !cache.ServesTLS() {
			continue
		}
		service := cache.ServiceName()
		servers = append(servers, &secretsutils.CertificateSecretConfig{
			Name:                        certificateName(cache),
			CommonName:                  certificateName(cache),
			CertType:                    secretsutils.ServerCert,
			DNSNames:                    kubernetesutils.DNSNamesForService(service, component.Namespace),
			IPAddresses:                 []net.IP{addresses[service]},
			Validity:                    new(certificateValidity),
			SkipPublishingCACertificate: true,
		})
	}
	return servers
}

// nodeCertificate returns the client certificate to issue for the nodes. All nodes of a Shoot share it, since they get
// the same files. The caches accept it as long as they trust its CA: see authority.go.
func nodeCertificate() *secretsutils.CertificateSecretConfig {
	return &secretsutils.CertificateSecretConfig{
		Name:                        nodeCertificateName,
		CommonName:                  nodeCertificateName,
		CertType:                    secretsutils.ClientCert,
		Validity:                    new(certificateValidity),
		SkipPublishingCACertificate: true,
	}
}

func certificateName(cache deployment) string {
	return cache.Name() + "-tls"
}
