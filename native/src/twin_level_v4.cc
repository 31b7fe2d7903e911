// SPDX-License-Identifier: Apache-2.0
// The twin for x86-64-v4: AVX-512. twin.cc looks at the CPU before it calls this.
#ifndef __clang__
#pragma GCC optimize("O3")
#pragma GCC target("arch=x86-64-v4")
#endif
#include "twin_turn.h"

void TwinChunkV4(TwinState& s, int32_t n) { Chunk(s, n); }
