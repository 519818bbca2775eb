// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package content

import (
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
)

// Tag returns the digest that a tag led to when the upstream last answered. The manifest may have been removed since.
func (c *Content) Tag(repository, tag string) (digest.Digest, bool) {
	defer c.volume.Read().Returned()
	d, err := c.store.Tag(repository, tag)
	return d, err == nil
}

// TagValidated returns when the upstream last confirmed that a tag leads to a digest, if SetTag recorded that.
func (c *Content) TagValidated(repository, tag string, d digest.Digest) time.Time {
	defer c.volume.Read().Returned()
	return c.index.Validated(repository, tag, d)
}

// SetTag stores the digest of a tag and, if validated is set, the current time as the time of its validation. It reports
// whether the tag is stored.
func (c *Content) SetTag(repository, tag string, d digest.Digest, validated bool) (stored bool) {
	defer c.volume.Sync().Returned()
	fields := logrus.Fields{"repository": repository, "reference": tag}
	err := c.store.SetTag(repository, tag, d)
	c.warn(err, "Failed to store a tag", fields)
	if validated {
		c.warn(c.index.SetValidated(repository, tag, d), "Failed to record the validation of a tag", fields)
	}
	return err == nil
}
