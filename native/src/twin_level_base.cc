// SPDX-License-Identifier: Apache-2.0
// The twin for any x86-64. twin.cc looks at the CPU before it calls this.
#ifndef __clang__
#pragma GCC optimize("O3")
#endif
#include "twin_turn.h"

void TwinChunkBase(TwinState& s, int32_t n) { Chunk(s, n); }
