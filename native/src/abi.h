// SPDX-License-Identifier: Apache-2.0
// The contract's headers, which are written for C, as C++ sees them.
#ifndef HYPERFLUX_NATIVE_ABI_H
#define HYPERFLUX_NATIVE_ABI_H

#ifndef _Static_assert
#define _Static_assert static_assert  // NOLINT(bugprone-reserved-identifier): C's word for it
#endif

#include "control_page.h"
#include "flux.h"
#include "flux_handoff.h"
#include "handoff.h"
#include "kflux.h"
#include "load.h"
#include "protocol.h"

#endif
