// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package transfer

import "time"

// SetStall changes how patient a group's transfers without a disk are with slow readers.
func (g *Group) SetStall(d time.Duration) { g.stall = d }
