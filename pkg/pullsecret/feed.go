// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullsecret

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/larder-project/larder/pkg/credentials"
)

const (
	// Namespace is the namespace of the controller and its feed.
	Namespace = metav1.NamespaceSystem
	// FeedName is the name of the Secret with the feed.
	FeedName = "registry-cache-pull-secrets"
	// FeedKey is the key of the feed in that Secret.
	FeedKey = "feed.json"

	// MaxSecrets bounds the pull secrets of a Shoot: the controller watches each name, and the report is bounded.
	MaxSecrets = 10
	// MaxAccounts bounds the accounts of a Shoot for the same reasons.
	MaxAccounts = 32
	// MaxFeed bounds the feed in bytes. With the rest of its Secret, it stays below the limit of the API server.
	MaxFeed = 768 << 10
	// MaxConfig bounds the docker configuration of a pull secret in bytes. The etcd of the Shoot has it once for each
	// namespace, and each renewal writes it to all of them.
	MaxConfig = 128 << 10
)

const (
	// Label marks the Secrets that the controller keeps. Its value is the UID of their namespace, so that it does not mark a
	// copy in another namespace. The controller never changes another Secret.
	Label = "registry.extensions.gardener.cloud/pull-secret"
	// ReferencesAnnotation has the references that the controller has added to a ServiceAccount, separated by commas.
	ReferencesAnnotation = "registry.extensions.gardener.cloud/pull-secrets"
	// DefaultServiceAccount is the name of the ServiceAccount that references can be added to.
	DefaultServiceAccount = "default"
)

// OwnerName returns the name of the ClusterRole that owns the pull secrets with a name in all namespaces, and permits
// the controller to change them.
func OwnerName(secret string) string {
	return "extensions.gardener.cloud:registry-cache:pull-secret:" + secret
}

// Feed describes the pull secrets of a Shoot, and the accounts of its caches.
type Feed struct {
	Secrets  []Secret
	Accounts []Account
	// CABundle has the certificates of the authorities that issue those of caches, in PEM format.
	CABundle string
}

// Secret describes a pull secret: the Secret with one name in all its namespaces.
type Secret struct {
	Name string
	// Namespaces and NamespaceSelector select the namespaces; one of them suffices.
	Namespaces        []string
	NamespaceSelector *metav1.LabelSelector
	// AddToDefaultServiceAccounts adds the pull secret to the default ServiceAccount of each of its namespaces.
	AddToDefaultServiceAccounts bool
	Registries                  []Registry
}

// Registry is a registry for which a pull secret has credentials.
type Registry struct {
	// Upstream is the registry as in image references.
	Upstream string
	// Host is the host of the registry's API, without a port.
	Host string
	// Connection is how to reach the services that issue credentials.
	Connection  Connection
	Credentials []Credential
}

// Connection is how to connect to services outside the Shoot.
type Connection struct {
	// HTTPSProxy is the URL of the proxy, empty for none. It may contain a password.
	HTTPSProxy string `json:"httpsProxy,omitempty"`
	// NoProxy lists what is reached without the proxy.
	NoProxy []string `json:"noProxy,omitempty"`
	// CABundle has certificates in PEM format that are trusted beside those of the system.
	CABundle string `json:"caBundle,omitempty"`
}

// Credential is a credential for a registry.
type Credential struct {
	// Repositories lists the repositories that it is for, each with all repositories below it; empty means all.
	Repositories []string
	// Name is the name of the object that the material comes from.
	Name string
	// Material is what the credential is issued from. Nil means that no credential is known to be accepted by the
	// upstream: a pull secret keeps the one that it has.
	Material *credentials.Material
}

// Selects reports whether the pull secret belongs in a namespace. An invalid selector selects nothing.
func (s Secret) Selects(namespace string, namespaceLabels map[string]string) bool {
	if slices.Contains(s.Namespaces, namespace) {
		return true
	}
	selector, err := metav1.LabelSelectorAsSelector(s.NamespaceSelector)
	return err == nil && selector.Matches(labels.Set(namespaceLabels))
}

// IsEmpty reports whether there is nothing to keep.
func (f Feed) IsEmpty() bool { return len(f.Secrets) == 0 && len(f.Accounts) == 0 }

// Names returns the names of the pull secrets and of the Secrets of accounts.
func (f Feed) Names() []string {
	names := make([]string, 0, len(f.Secrets)+len(f.Accounts))
	for _, secret := range f.Secrets {
		names = append(names, secret.Name)
	}
	for _, account := range f.Accounts {
		names = append(names, account.SecretName)
	}
	return names
}

// Caches returns the names of the caches with accounts.
func (f Feed) Caches() []string {
	var names []string
	for _, account := range f.Accounts {
		if !slices.Contains(names, account.Cache) {
			names = append(names, account.Cache)
		}
	}
	return names
}

// Published returns the credential of a pull secret for some repositories of an upstream, nil if there is none.
func (f Feed) Published(name, upstream string, repositories []string) *Credential {
	for _, secret := range f.Secrets {
		if secret.Name != name {
			continue
		}
		for _, registry := range secret.Registries {
			if registry.Upstream != upstream {
				continue
			}
			for _, credential := range registry.Credentials {
				if credentials.Prefix(credential.Repositories) == credentials.Prefix(repositories) {
					return &credential
				}
			}
		}
	}
	return nil
}

// The types below are the encoding of a feed. Those above have no encoding of their own, so that nothing that encodes
// them by chance shows a secret.
type (
	encodedFeed struct {
		Secrets []encodedSecret `json:"secrets"`
		// Connections has each connection once: the caches of a Shoot usually share their CA bundle.
		Connections []encodedConnection `json:"connections,omitempty"`
		Accounts    []Account           `json:"accounts,omitempty"`
		CABundle    string              `json:"caBundle,omitempty"`
	}
	encodedSecret struct {
		Name                        string                `json:"name"`
		Namespaces                  []string              `json:"namespaces,omitempty"`
		NamespaceSelector           *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
		AddToDefaultServiceAccounts bool                  `json:"addToDefaultServiceAccounts,omitempty"`
		Registries                  []encodedRegistry     `json:"registries"`
	}
	encodedRegistry struct {
		Upstream string `json:"upstream"`
		Host     string `json:"host"`
		// Connection is the index of a connection, nil for none.
		Connection  *int                `json:"connection,omitempty"`
		Credentials []encodedCredential `json:"credentials"`
	}
	encodedCredential struct {
		Repositories []string        `json:"repositories,omitempty"`
		Name         string          `json:"name"`
		Material     json.RawMessage `json:"material,omitempty"`
	}
	encodedConnection Connection
)

// Equal reports whether two connections are the same.
func (c Connection) Equal(other Connection) bool {
	return c.HTTPSProxy == other.HTTPSProxy && c.CABundle == other.CABundle && slices.Equal(c.NoProxy, other.NoProxy)
}

// String hides the proxy, whose URL may contain a password.
func (Connection) String() string { return "[connection]" }

// GoString is [Connection.String].
func (c Connection) GoString() string { return c.String() }

// MarshalJSON hides the proxy, whose URL may contain a password.
func (c Connection) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

// Encode returns the feed in JSON, with its secrets. It is deterministic.
func (f Feed) Encode() ([]byte, error) {
	e := encodedFeed{Secrets: []encodedSecret{}, Accounts: f.Accounts, CABundle: f.CABundle}
	for _, secret := range f.Secrets {
		es := encodedSecret{
			Name: secret.Name, Namespaces: secret.Namespaces, NamespaceSelector: secret.NamespaceSelector,
			AddToDefaultServiceAccounts: secret.AddToDefaultServiceAccounts,
		}
		for _, registry := range secret.Registries {
			er := encodedRegistry{Upstream: registry.Upstream, Host: registry.Host, Connection: e.add(registry.Connection)}
			for _, credential := range registry.Credentials {
				ec := encodedCredential{Repositories: credential.Repositories, Name: credential.Name}
				if credential.Material != nil {
					ec.Material = credential.Material.Encode()
				}
				er.Credentials = append(er.Credentials, ec)
			}
			es.Registries = append(es.Registries, er)
		}
		e.Secrets = append(e.Secrets, es)
	}
	data, err := json.Marshal(e)
	if err != nil {
		return nil, errors.New("encode feed of pull secrets") // The error may quote a secret.
	}
	if len(data) > MaxFeed {
		return nil, fmt.Errorf("the credentials and CA bundles of all caches with the field pullSecret have %d bytes, more than the maximum of %d; "+
			"remove pullSecret from some caches, or use smaller CA bundles or credentials", len(data), MaxFeed)
	}
	return data, nil
}

// add adds a connection if it is new, and returns its index.
func (e *encodedFeed) add(connection Connection) *int {
	if connection.Equal(Connection{}) {
		return nil
	}
	i := slices.IndexFunc(e.Connections, func(other encodedConnection) bool { return Connection(other).Equal(connection) })
	if i < 0 {
		i = len(e.Connections)
		e.Connections = append(e.Connections, encodedConnection(connection))
	}
	return &i
}

// connection returns the connection with an index.
func (e *encodedFeed) connection(i *int) Connection {
	if i == nil || *i < 0 || *i >= len(e.Connections) {
		return Connection{}
	}
	return Connection(e.Connections[*i])
}

// DecodeFeed is the inverse of [Feed.Encode]. The error does not quote the feed.
//
// The controller and the extension are not updated at the same time, so a feed of a later version may have more fields.
// A credential whose material cannot be decoded has none, so the pull secrets keep what they have.
func DecodeFeed(data []byte) (Feed, error) {
	var e encodedFeed
	if err := json.Unmarshal(data, &e); err != nil {
		return Feed{}, errors.New("invalid encoding of the feed of pull secrets")
	}
	f := Feed{Accounts: e.Accounts, CABundle: e.CABundle}
	for _, es := range e.Secrets {
		secret := Secret{
			Name: es.Name, Namespaces: es.Namespaces, NamespaceSelector: es.NamespaceSelector,
			AddToDefaultServiceAccounts: es.AddToDefaultServiceAccounts,
		}
		for _, er := range es.Registries {
			registry := Registry{Upstream: er.Upstream, Host: er.Host, Connection: e.connection(er.Connection)}
			for _, ec := range er.Credentials {
				credential := Credential{Repositories: ec.Repositories, Name: ec.Name}
				if material, err := credentials.DecodeMaterial(ec.Material); err == nil {
					credential.Material = &material
				}
				registry.Credentials = append(registry.Credentials, credential)
			}
			secret.Registries = append(secret.Registries, registry)
		}
		f.Secrets = append(f.Secrets, secret)
	}
	return f, nil
}

// Digest identifies an encoded feed in a [Report]. It is short enough for the value of a label.
func Digest(encoded []byte) string {
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:16])
}
