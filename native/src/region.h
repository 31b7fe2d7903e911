// SPDX-License-Identifier: Apache-2.0
// Memory that JavaScript and native threads look at together. A region is unmapped when the last ArrayBuffer
// over it is gone *and* no native user is left, so a thread never looks at an address that JavaScript gave
// up.
//
// Regions belong to the process, not to one JavaScript environment: the main thread and its workers load the
// addon once each, but share this list. A region's id is how one thread tells another which it means.
#ifndef HYPERFLUX_NATIVE_REGION_H
#define HYPERFLUX_NATIVE_REGION_H

#include <napi.h>
#include <stdint.h>

#include <memory>

struct Region {
  void* base = nullptr;
  size_t bytes = 0;
  uint32_t id = 0;
  // An arena is cut into slots; 0 slots for everything else.
  uint32_t slots = 0;
  size_t stride = 0;

  Region() = default;
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region();

  // Takes over a mapping. `slots` and `stride` make it an arena.
  static std::shared_ptr<Region> Adopt(void* base, size_t bytes, uint32_t slots = 0, size_t stride = 0);
  // Nothing, if there is no such region any more.
  static std::shared_ptr<Region> ById(uint32_t id);
  static std::shared_ptr<Region> At(const void* base);

  // A new ArrayBuffer over the whole region. Undefined with an error pending if that fails.
  static Napi::Value Wrap(Napi::Env env, const std::shared_ptr<Region>& region);
};

// Zeroed pages of this process, prefaulted; nullptr if there are none. For Region::Adopt.
void* AllocatePages(size_t bytes);

#endif
