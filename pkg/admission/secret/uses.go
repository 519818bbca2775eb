// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"fmt"
	"strings"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/larder-project/larder/pkg/admission/usage"
	"github.com/larder-project/larder/pkg/reference"
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

// undecodable replaces the fields of a configuration that may reference the object. A person has to check it.
func undecodable(fldPath *field.Path, err error) string {
	return fmt.Sprintf("%s, which cannot be decoded and may reference it: %s", fldPath, err)
}

// kind is the kind of an object that is protected.
type kind string

const (
	secret           kind = "Secret"
	workloadIdentity kind = reference.WorkloadIdentityKind
)

// target is an object that is to be deleted.
type target struct {
	kind kind
	name string
}

// is reports whether an entry of spec.resources references the object.
func (t target) is(reference autoscalingv1.CrossVersionObjectReference) bool {
	if reference.Name != t.name {
		return false
	}
	if t.kind == workloadIdentity {
		return usage.IsWorkloadIdentity(reference)
	}
	return usage.IsSecret(reference)
}

// uses collects the uses of an object. It counts all of them, but keeps only those that the message names.
type uses struct {
	target target
	shoots []string
	count  int
}

// add adds the uses by a Shoot.
func (u *uses) add(shoot *gardencorev1beta1.Shoot, extension Extension) {
	entries, paths := entriesFor(shoot, u.target)
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

// entriesFor returns the names and the paths of the entries in spec.resources that reference an object.
func entriesFor(shoot *gardencorev1beta1.Shoot, target target) (sets.Set[string], []string) {
	names := sets.New[string]()
	var paths []string
	for i, resource := range shoot.Spec.Resources {
		if target.is(resource.ResourceRef) {
			names.Insert(resource.Name)
			paths = append(paths, field.NewPath("spec", "resources").Index(i).String())
		}
	}
	return names, paths
}

func (u *uses) empty() bool {
	return u.count == 0
}

// message names the uses of the object and the remedy.
func (u *uses) message() string {
	return fmt.Sprintf("%[1]s %[2]s is in use and its deletion cannot be undone: %[3]s. "+
		"Reference another %[1]s in these entries of spec.resources, or remove the references, before you delete this %[1]s",
		u.target.kind, u.target.name, andMore(u.shoots, "; ", u.count))
}

// andMore joins texts and appends the number of those that are missing from the count.
func andMore(texts []string, separator string, count int) string {
	joined := strings.Join(texts, separator)
	if more := count - len(texts); more > 0 {
		return fmt.Sprintf("%s%sand %d more", joined, separator, more)
	}
	return joined
}
