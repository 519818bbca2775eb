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
// There are two webhooks with one handler. API servers call the first for Secrets with Gardener's finalizer. If it is
// unavailable, these cannot be deleted; all others can.
//
// A referenced Secret may lack the finalizer. Gardener adds it after a Shoot has started to use the Secret, and its
// controller may miss that a Secret needs it again: if a Shoot moves from one Secret to another and at once back, the
// controller may still see the finalizer that it has just removed, and nothing makes it look again until the references
// change. So API servers call the second webhook for Secrets without the finalizer, if they are immutable, as Secrets
// for caches and mirrors must be, and in the namespace of a project. If that webhook is unavailable, they can be deleted:
// the garden must not depend on an extension. A review that takes too long denies before API servers give up, and each
// namespace has one at a time: no project can make the protection of another fail, or hold up its deletions for long.
//
// A deletion may still slip through at the moment in which a Shoot starts to use the Secret. No webhook could order the
// two API requests for the two objects. The review of the Shoot narrows this window from the other side: it refuses
// Secrets that are missing or in deletion.
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
