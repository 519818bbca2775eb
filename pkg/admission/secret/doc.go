// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package secret keeps Secrets from being deleted while caches use them.
//
// Gardener puts a finalizer on the Secrets that Shoots refer to. It keeps what
// is deleted for as long as it is referred to, but nobody can take the deletion
// back: the Secret is gone the moment the last reference moves. So the webhook
// refuses the deletion itself, as long as a Shoot refers to the Secret from a
// configuration of the extension, be that Shoot in deletion or not.
//
// # When it is called
//
// API servers call the webhook for protected Secrets only, those with Gardener's
// finalizer. If it is away, they can't be deleted; all others can. Gardener
// needs some milliseconds to put the finalizer on a Secret, or to take it off:
// a Secret that is deleted in the same breath in which a Shoot begins to use it
// may slip through, and as long as there are two API requests for the two
// objects, no webhook could order them. The review of the Shoot shuts this
// window from its side, it refuses Secrets that are gone or in deletion.
//
// # How it decides
//
// Each review lists the Shoots of the namespace that use the extension, by
// Gardener's label, page by page, and asks the API server for a consistent list.
//
// A watch with a trimmed cache would answer sooner, but it lags behind: it
// could allow the deletion of a Secret that a Shoot was pointed to a moment
// ago, which is just the order in which people rotate, and it would hold and
// follow every Shoot of the garden for a question that comes up some times a
// day. The list costs some milliseconds for a project of usual size, is right
// whenever it answers, and memory that does not depend on the number of Shoots:
// one page for each review, and few reviews at a time.
//
// There is no cache of Secrets either. A review needs the name only, which it
// is sent.
package secret
