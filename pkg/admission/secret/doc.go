// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package secret prevents the deletion of Secrets that caches and mirrors use, and of WorkloadIdentities that caches use.
// In the following, a Secret is either of them.
//
// Gardener puts a finalizer on the Secrets that Shoots reference. The finalizer keeps a deleted Secret while it is
// referenced, but a deletion cannot be undone: the Secret is gone the moment the last reference moves. So the webhook
// refuses the deletion itself as long as a configuration of an extension in any Shoot references the Secret, including
// Shoots in deletion.
//
// # When it is called
//
// API servers call the webhook only for Secrets with Gardener's finalizer. If the webhook is unavailable, these cannot
// be deleted; all others can. Gardener needs some milliseconds to add or remove the finalizer, so the deletion of a
// Secret may slip through at the moment in which a Shoot starts to use it. No webhook could order the two API requests
// for the two objects. The review of the Shoot closes this window from the other side: it refuses Secrets that are
// missing or in deletion.
//
// # How it decides
//
// Each review lists the Shoots of the namespace that use an extension, selected by Gardener's label, page by page, and
// requests a consistent list from the API server.
//
// A watch with a trimmed cache would be faster, but stale: it could allow the deletion of a Secret right after a Shoot
// was changed to reference it, which is the usual order in a rotation. It would also hold and follow every Shoot of the
// garden for a decision that is needed a few times a day. The list takes some milliseconds for a project of usual size,
// is always correct, and needs memory that does not depend on the number of Shoots: one page for each review, and few
// reviews at a time.
//
// There is no cache of Secrets: a review needs only the name, which is part of the request.
package secret
