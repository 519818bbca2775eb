// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"fmt"
	"strings"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/larder-project/larder/pkg/admission/usage"
)

const (
	// maxShoots and maxFields keep a message readable. The limit of fields applies to spec.resources and to the
	// configuration, separately.
	maxShoots = 20
	maxFields = 5
)

// Extension is an extension whose configuration can reference entries of spec.resources.
type Extension struct {
	// Label is the label that Gardener maintains on all Shoots with the extension.
	Label string
	// Fields returns the fields of the configuration that reference one of the entries, given by name.
	Fields func(shoot *gardencorev1beta1.Shoot, entries sets.Set[string]) []string
}

// ExtensionOf returns the extension with the given use by Shoots.
func ExtensionOf[C any](extension usage.Extension[C]) Extension {
	return Extension{
		Label: extension.Label(),
		Fields: func(shoot *gardencorev1beta1.Shoot, entries sets.Set[string]) []string {
			usage := extension.UsedBy(shoot)
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

// undecodable replaces the fields of a configuration that may reference the Secret. A person has to check it.
func undecodable(fldPath *field.Path, err error) string {
	return fmt.Sprintf("%s, which cannot be decoded and may reference it: %s", fldPath, err)
}

// uses collects the uses of a Secret. It counts all of them, but keeps only those that the message names.
type uses struct {
	secret string
	shoots []string
	count  int
}

// add adds the uses by a Shoot.
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

// entriesFor returns the names and the paths of the entries in spec.resources that reference the Secret.
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

// message names the uses of the Secret and the remedy.
func (u *uses) message() string {
	return fmt.Sprintf("Secret %s is in use and its deletion cannot be undone: %s. "+
		"Reference another Secret in these entries of spec.resources, or remove the references, before you delete this Secret",
		u.secret, andMore(u.shoots, "; ", u.count))
}

// andMore joins texts and appends the number of those that are missing from the count.
func andMore(texts []string, separator string, count int) string {
	joined := strings.Join(texts, separator)
	if more := count - len(texts); more > 0 {
		return fmt.Sprintf("%s%sand %d more", joined, separator, more)
	}
	return joined
}
