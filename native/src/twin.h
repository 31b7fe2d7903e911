// SPDX-License-Identifier: Apache-2.0
// The C twin of the arbiter's loop: what `hyperflux bench loop` compares the TypeScript one with. It reads
// the same memory, comes to the same decisions (a test compares them) and is written as C would be: structs
// with fixed addresses, compiled for the CPU at hand. Nothing in production runs it.
#ifndef HYPERFLUX_NATIVE_TWIN_H
#define HYPERFLUX_NATIVE_TWIN_H

#include <stddef.h>
#include <stdint.h>

#include "abi.h"

// arbiter/policy/api.ts
constexpr int32_t kNoVm = -1;
constexpr int32_t kAgeMax = 0x3fffffff;
enum { kHeadNow, kHeadHot, kHeadCores, kHeadWords = 16 };
enum { kVmBooting = 1, kVmForcedHeld = 2 };
enum { kCoreMoving = 1, kCoreIdle = 2 };

// arbiter/policy/reasons.ts
enum {
  kWhyNone = 0,
  kWhyGuarantee = 1,
  kWhyStarved = 2,
  kWhyDelay = 3,
  kWhyBoot = 4,
  kWhyShare = 5,
  kWhyIdleCore = 6,
  kWhyUnknownVm = 16,
  kWhyMaxCores = 17,
  kWhyKeepsGuarantee = 18,
  kWhyOverMax = 19,
  kWhyPolicyFault = 20,
  kWhyReset = 21,
  kWhyRate = 22,
  kWhySettling = 23,
  kWhyPending = 32,
  kWhyNoVcpu = 33,
  kWhyBridge = 34,
};

// The view of arbiter/policy/api.ts and the guard's arrays. TypeScript finds the fields by their names and
// offsets, which InitTwin derives from this list.
#define TWIN_VIEW(ARRAY)           \
  ARRAY(head, kHeadWords)          \
  ARRAY(hot, FLUX_MAX_VMS)         \
  ARRAY(vmClass, FLUX_MAX_VMS)     \
  ARRAY(vmMin, FLUX_MAX_VMS)       \
  ARRAY(vmMax, FLUX_MAX_VMS)       \
  ARRAY(vmCores, FLUX_MAX_VMS)     \
  ARRAY(vmWants, FLUX_MAX_VMS)     \
  ARRAY(vmDelay, FLUX_MAX_VMS)     \
  ARRAY(vmAway, FLUX_MAX_VMS)      \
  ARRAY(vmFlags, FLUX_MAX_VMS)     \
  ARRAY(coreVm, FLUX_MAX_CORES)    \
  ARRAY(coreFlags, FLUX_MAX_CORES) \
  ARRAY(coreAge, FLUX_MAX_CORES)   \
  ARRAY(coreLast, FLUX_MAX_CORES)  \
  ARRAY(coreHeir, FLUX_MAX_CORES)  \
  ARRAY(target, FLUX_MAX_CORES)    \
  ARRAY(why, FLUX_MAX_CORES)       \
  ARRAY(heir, FLUX_MAX_CORES)      \
  ARRAY(known, FLUX_MAX_VMS)       \
  ARRAY(limit, FLUX_MAX_VMS)       \
  ARRAY(allowed, FLUX_MAX_CORES)   \
  ARRAY(edits, FLUX_MAX_CORES)

// Arrays of a power of two one behind the other would have all their elements of one VM in the same set of
// the first-level cache, and the CPU would take a store to one for a store to all. So each begins a line
// later.
constexpr size_t kStagger = 16;

struct TwinView {
#define FIELD(name, count) int32_t name[(count) + kStagger];
  TWIN_VIEW(FIELD)
#undef FIELD
};

#endif
