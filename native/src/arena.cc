// SPDX-License-Identifier: Apache-2.0
// The arena: the hot parts of all control pages side by side behind one ArrayBuffer, so that the loop scans
// many VMs with one typed array whose object never changes and stays folded into the compiled code.
#include <errno.h>
#include <sys/mman.h>

#include "abi.h"
#include "addon.h"
#include "args.h"
#include "bind.h"
#include "fail.h"
#include "mapping.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

namespace {

constexpr size_t kPage = 4096;

// Zero pages that cost no memory; reading them does not fault.
bool MapEmpty(void* at, size_t bytes, int extra_flags, void** result) {
  void* base = mmap(at, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | extra_flags, -1, 0);
  if (base == MAP_FAILED) return false;
  // Not there before Linux 5.14; then the first pass of a scan faults the pages in.
  madvise(base, bytes, MADV_POPULATE_READ);
  if (result != nullptr) *result = base;
  return true;
}

Napi::Value ArenaReserve(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  int64_t slots;
  int64_t stride;
  if (!args.Int(0, "slots", 1, FLUX_MAX_VMS, &slots)) return env.Undefined();
  if (!args.Int(1, "stride", FLUX_HOT_BYTES, FLUX_CONTROL_BYTES, &stride)) return env.Undefined();
  if (stride % static_cast<int64_t>(kPage) != 0) {
    FailRange(env, "stride must be a multiple of the page size, " + std::to_string(kPage));
    return env.Undefined();
  }
  const size_t bytes = static_cast<size_t>(slots) * static_cast<size_t>(stride);
  void* base = nullptr;
  if (!MapEmpty(nullptr, bytes, 0, &base)) {
    return Fail(env, errno, "cannot reserve an arena of " + std::to_string(bytes) + " bytes");
  }
  return Region::Wrap(env,
                      Region::Adopt(base, bytes, static_cast<uint32_t>(slots), static_cast<size_t>(stride)));
}

bool Slot(const Napi::CallbackInfo& info, std::shared_ptr<Region>* arena, uint8_t** at) {
  const Args args(info);
  int64_t slot;
  if (!args.Shared(0, "arena", arena)) return false;
  if ((*arena)->slots == 0) {
    FailType(info.Env(), "arena must be a buffer from reserveArena");
    return false;
  }
  if (!args.Int(1, "slot", 0, (*arena)->slots - 1, &slot)) return false;
  *at = static_cast<uint8_t*>((*arena)->base) + static_cast<size_t>(slot) * (*arena)->stride;
  return true;
}

Napi::Value ArenaAttach(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::shared_ptr<Region> arena;
  uint8_t* at;
  int fd;
  if (!Slot(info, &arena, &at) || !Args(info).Fd(2, "fd", &fd)) return env.Undefined();
  std::string why;
  const int err = CheckMappable(fd, 0, FLUX_HOT_BYTES, true, &why);
  if (err != 0) return FailWith(env, err, why);
  // One system call replaces the pages: a loop that reads them meanwhile sees the old ones or the new ones.
  void* base = mmap(at, FLUX_HOT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 0);
  if (base == MAP_FAILED) {
    const int failed = errno;
    // The kernel may have removed the old pages before it failed; the loop must not find a hole.
    MapEmpty(at, FLUX_HOT_BYTES, MAP_FIXED, nullptr);
    return Fail(env, failed, "cannot map a control page into the arena");
  }
  return env.Undefined();
}

Napi::Value ArenaDetach(const Napi::CallbackInfo& info) {
  std::shared_ptr<Region> arena;
  uint8_t* at;
  if (!Slot(info, &arena, &at)) return info.Env().Undefined();
  if (!MapEmpty(at, arena->stride, MAP_FIXED, nullptr)) {
    return Fail(info.Env(), errno, "cannot take a control page out of the arena");
  }
  return info.Env().Undefined();
}

Napi::Value ArenaShape(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::shared_ptr<Region> arena;
  if (!Args(info).Shared(0, "arena", &arena)) return env.Undefined();
  Napi::Object shape = Napi::Object::New(env);
  shape.Set("slots", arena->slots);
  shape.Set("stride", static_cast<double>(arena->stride));
  return shape;
}

}  // namespace

void InitArena(Napi::Object exports) {
  Export<ArenaReserve>(exports, "arenaReserve");
  Export<ArenaAttach>(exports, "arenaAttach");
  Export<ArenaDetach>(exports, "arenaDetach");
  Export<ArenaShape>(exports, "arenaShape");
}
