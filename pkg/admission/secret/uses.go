// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"fmt"
	"strings"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/admission/usage"
	"github.com/larder-project/larder/pkg/apis/mirror"
	mirrorcodec "github.com/larder-project/larder/pkg/apis/mirror/codec"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
)

const (
	// maxShoots and maxFields are how many a message names, so that it can be read.
	// Fields are counted twice: those in spec.resources, and those of the configuration.
	maxShoots = 20
	maxFields = 5
)

// Extension is one whose configuration can refer to entries of spec.resources.
type Extension struct {
	// Label is the one that Gardener keeps on all Shoots with the extension.
	Label string
	// Fields returns the fields of the configuration that refer to one of the
	// entries, which are given by their names.
	Fields func(shoot *gardencorev1beta1.Shoot, entries sets.Set[string]) []string
}

// RegistryCache is the extension that this program belongs to.
func RegistryCache(codec *codec.Codec) Extension {
	return Extension{
		Label: usage.Label,
		Fields: func(shoot *gardencorev1beta1.Shoot, entries sets.Set[string]) []string {
			usage := usage.Of(shoot, codec)
			if usage == nil {
				return nil
			}
			if usage.Err != nil {
				return []string{undecodable(usage.ConfigPath(), usage.Err)}
			}
			var fields []string
			for _, reference := range usage.References {
				if entries.Has(reference.Name) {
					fields = append(fields, reference.Path.String())
				}
			}
			return fields
		},
	}
}

// RegistryMirror is the sibling extension, whose mirrors have CA bundles in Secrets.
func RegistryMirror(codec *mirrorcodec.Codec) Extension {
	return Extension{
		Label: v1beta1constants.LabelExtensionExtensionTypePrefix + mirror.ExtensionType,
		Fields: func(shoot *gardencorev1beta1.Shoot, entries sets.Set[string]) []string {
			i := usage.Find(shoot, mirror.ExtensionType)
			if i < 0 || shoot.Spec.Extensions[i].ProviderConfig == nil {
				return nil
			}
			fldPath := field.NewPath("spec", "extensions").Index(i).Child("providerConfig")
			config, err := codec.DecodeConfig(shoot.Spec.Extensions[i].ProviderConfig)
			if err != nil {
				return []string{undecodable(fldPath, err)}
			}
			var fields []string
			for i, m := range config.Mirrors {
				for j, host := range m.Hosts {
					if entries.Has(ptr.Deref(host.CABundleSecretReferenceName, "")) {
						fields = append(fields, fldPath.Child("mirrors").Index(i).Child("hosts").Index(j).Child("caBundleSecretReferenceName").String())
					}
				}
			}
			return fields
		},
	}
}

// undecodable stands for the fields of a configuration that may well refer to
// the Secret. To be sure, someone has to look at it.
func undecodable(fldPath *field.Path, err error) string {
	return fmt.Sprintf("%s, which can't be decoded and may refer to it: %s", fldPath, err)
}

// uses are the uses of a Secret. They are counted, but no more are kept than
// the message names.
type uses struct {
	secret string
	shoots []string
	count  int
}

// add adds the uses by a Shoot, if there are any.
func (u *uses) add(shoot *gardencorev1beta1.Shoot, extension Extension) {
	entries, paths := entriesFor(shoot, u.secret)
	if entries.Len() == 0 {
		return
	}
	fields := extension.Fields(shoot, entries)
	if len(fields) == 0 {
		return
	}
	u.count++
	if u.count <= maxShoots {
		u.shoots = append(u.shoots, fmt.Sprintf("Shoot %s (%s, used in %s)", shoot.Name, andMore(paths[:min(len(paths), maxFields)], ", ", len(paths)), andMore(fields[:min(len(fields), maxFields)], ", ", len(fields))))
	}
}

// entriesFor returns the names and the paths of the entries in spec.resources
// that lead to the Secret.
func entriesFor(shoot *gardencorev1beta1.Shoot, secret string) (sets.Set[string], []string) {
	names := sets.New[string]()
	var paths []string
	for i, resource := range shoot.Spec.Resources {
		if usage.IsSecret(resource.ResourceRef) && resource.ResourceRef.Name == secret {
			names.Insert(resource.Name)
			paths = append(paths, field.NewPath("spec", "resources").Index(i).String())
		}
	}
	return names, paths
}

func (u *uses) empty() bool {
	return u.count == 0
}

// message names who uses the Secret, where, and what to do about it.
func (u *uses) message() string {
	return fmt.Sprintf("Secret %s is in use, and nobody could restore it: %s. "+
		"Create another Secret and let these entries of spec.resources refer to it, or remove the references; then delete this one",
		u.secret, andMore(u.shoots, "; ", u.count))
}

// andMore joins texts and says how many of the count are not among them.
func andMore(texts []string, separator string, count int) string {
	joined := strings.Join(texts, separator)
	if more := count - len(texts); more > 0 {
		return fmt.Sprintf("%s%sand %d more", joined, separator, more)
	}
	return joined
}
