// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"encoding/json"
	"errors"
)

// Material is what an owner provides to authenticate with. Exactly one field is set. A credential is used as it is; from
// all other material, credentials are issued that expire. Printing, logging or encoding material never shows a secret;
// only the fields and [Material.Encode] do.
type Material struct {
	Credential       Credential
	AWS              AWSKeys
	WorkloadIdentity WorkloadIdentity
}

// AWSKeys is an access key for Amazon Web Services, from which tokens for Amazon ECR are issued.
type AWSKeys struct {
	AccessKeyID     string `json:"accessKeyID"`
	SecretAccessKey string `json:"secretAccessKey"`
	// SessionToken belongs to a temporary access key. It is optional.
	SessionToken string `json:"sessionToken,omitempty"`
	// RoleARN is the role to assume with the access key. It is optional.
	RoleARN string `json:"roleARN,omitempty"`
	// ExternalID is what the role requires of identities of other accounts that may assume it. It is optional.
	ExternalID string `json:"externalID,omitempty"`
}

// WorkloadIdentity is an identity that Gardener vouches for, which a cloud provider exchanges for a credential.
type WorkloadIdentity struct {
	Provider Provider `json:"provider"`
	// Config is the provider's configuration of the identity in JSON, as in the WorkloadIdentity. It is not secret.
	Config string `json:"config"`
	// Token is the JSON web token that Gardener issued. Gardener replaces it before it expires.
	Token string `json:"token"`
}

// Provider is a cloud provider.
type Provider string

// The cloud providers with workload identities, by the type of Gardener's provider extensions.
const (
	ProviderAWS    Provider = "aws"
	ProviderAzure  Provider = "azure"
	ProviderGoogle Provider = "gcp"
)

// Static returns the material of a credential that is used as it is.
func Static(c Credential) Material { return Material{Credential: c} }

// IsStatic reports whether the material is a credential that is used as it is.
func (m Material) IsStatic() bool { return m.Credential != Credential{} }

// Same reports whether two materials are the same for a rotation. A workload identity stays the same when Gardener
// replaces its token.
func (m Material) Same(other Material) bool {
	m.WorkloadIdentity.Token, other.WorkloadIdentity.Token = "", ""
	return m == other
}

// Validate returns an error if the material is not exactly one form with all that it requires. The error does not quote
// it.
func (m Material) Validate() error {
	forms := 0
	for _, set := range []bool{m.IsStatic(), m.AWS != AWSKeys{}, m.WorkloadIdentity != WorkloadIdentity{}} {
		if set {
			forms++
		}
	}
	switch {
	case forms != 1:
		return errors.New("material must have exactly one form")
	case m.IsStatic():
		return m.Credential.Validate()
	case m.AWS != AWSKeys{}:
		return m.AWS.validate()
	}
	return m.WorkloadIdentity.validate()
}

func (k AWSKeys) validate() error {
	if k.AccessKeyID == "" || k.SecretAccessKey == "" {
		return errors.New("an AWS access key needs an ID and a secret")
	}
	return ValidateToken(k.AccessKeyID + k.SecretAccessKey + k.SessionToken + k.RoleARN + k.ExternalID)
}

func (w WorkloadIdentity) validate() error {
	switch w.Provider {
	case ProviderAWS, ProviderAzure, ProviderGoogle:
	default:
		return errors.New("unknown provider of a workload identity")
	}
	if !json.Valid([]byte(w.Config)) {
		return errors.New("the configuration of a workload identity is not valid JSON")
	}
	return ValidateToken(w.Token)
}

// encoded is the encoding of material in files. A nil form is not set.
type encoded struct {
	Credential       *encodedCredential       `json:"credential,omitempty"`
	AWS              *encodedAWSKeys          `json:"aws,omitempty"`
	WorkloadIdentity *encodedWorkloadIdentity `json:"workloadIdentity,omitempty"`
}

// These types have the fields of the originals, without the methods that hide them.
type (
	encodedAWSKeys          AWSKeys
	encodedWorkloadIdentity WorkloadIdentity
)

// encodedCredential is a credential whose fields are encoded. Passwords and user names are base64, since JSON cannot
// carry all bytes.
type encodedCredential struct {
	Username      []byte `json:"username,omitempty"`
	Password      []byte `json:"password,omitempty"`
	IdentityToken string `json:"identityToken,omitempty"`
	RegistryToken string `json:"registryToken,omitempty"`
}

// Encode returns the material in JSON, with its secrets, for files that cache servers read. It is deterministic.
func (m Material) Encode() []byte {
	var e encoded
	if c := m.Credential; m.IsStatic() {
		e.Credential = &encodedCredential{
			Username: []byte(c.Username), Password: []byte(c.Password),
			IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken,
		}
	}
	if (m.AWS != AWSKeys{}) {
		e.AWS = new(encodedAWSKeys(m.AWS))
	}
	if (m.WorkloadIdentity != WorkloadIdentity{}) {
		e.WorkloadIdentity = new(encodedWorkloadIdentity(m.WorkloadIdentity))
	}
	data, err := json.Marshal(e)
	if err != nil {
		panic(err) // All fields are strings and byte slices.
	}
	return data
}

// DecodeMaterial is the inverse of [Material.Encode]. It also validates the material: a form of a later version is an
// error, while additional fields are ignored. The error does not quote it.
func DecodeMaterial(data []byte) (Material, error) {
	var e encoded
	if err := json.Unmarshal(data, &e); err != nil {
		return Material{}, errors.New("invalid encoding of material") // The decoder may quote a secret.
	}
	var m Material
	if c := e.Credential; c != nil {
		m.Credential = Credential{
			Username: string(c.Username), Password: string(c.Password),
			IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken,
		}
	}
	if e.AWS != nil {
		m.AWS = AWSKeys(*e.AWS)
	}
	if e.WorkloadIdentity != nil {
		m.WorkloadIdentity = WorkloadIdentity(*e.WorkloadIdentity)
	}
	return m, m.Validate()
}
