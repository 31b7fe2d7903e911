// SPDX-License-Identifier: Apache-2.0
#include "region.h"

#include <errno.h>
#include <sys/mman.h>

#include <map>
#include <mutex>

#include "fail.h"

namespace {

// Never destroyed: finalizers may run after static destructors when the process ends.
struct List {
  std::mutex mutex;
  std::map<uint32_t, std::weak_ptr<Region>> by_id;
  std::map<const void*, uint32_t> ids;
  uint32_t last_id = 0;
};

List& list() {
  static List* const the = new List;
  return *the;
}

}  // namespace

std::shared_ptr<Region> Region::Adopt(void* base, size_t bytes, uint32_t slots, size_t stride) {
  auto region = std::make_shared<Region>();
  region->base = base;
  region->bytes = bytes;
  region->slots = slots;
  region->stride = stride;
  List& l = list();
  const std::lock_guard<std::mutex> lock(l.mutex);
  // Ids are not used twice within any time that matters; 0 stays "none".
  do {
    l.last_id++;
  } while (l.last_id == 0 || l.by_id.count(l.last_id) != 0);
  region->id = l.last_id;
  l.by_id[region->id] = region;
  l.ids[base] = region->id;
  return region;
}

Region::~Region() {
  if (base == nullptr) return;
  List& l = list();
  {
    const std::lock_guard<std::mutex> lock(l.mutex);
    l.by_id.erase(id);
    l.ids.erase(base);
  }
  // After the list forgot it: the kernel may give the address to somebody else at once.
  munmap(base, bytes);
}

std::shared_ptr<Region> Region::ById(uint32_t id) {
  List& l = list();
  const std::lock_guard<std::mutex> lock(l.mutex);
  const auto found = l.by_id.find(id);
  return found == l.by_id.end() ? nullptr : found->second.lock();
}

std::shared_ptr<Region> Region::At(const void* base) {
  List& l = list();
  const std::lock_guard<std::mutex> lock(l.mutex);
  const auto id = l.ids.find(base);
  return id == l.ids.end() ? nullptr : l.by_id[id->second].lock();
}

Napi::Value Region::Wrap(Napi::Env env, const std::shared_ptr<Region>& region) {
  auto* hold = new std::shared_ptr<Region>(region);
  napi_value buffer;
  const napi_status status = napi_create_external_arraybuffer(
      env, region->base, region->bytes,
      [](napi_env, void*, void* hint) { delete static_cast<std::shared_ptr<Region>*>(hint); }, hold, &buffer);
  if (status != napi_ok) {
    delete hold;
    return Fail(
        env, ENOMEM, "cannot make an ArrayBuffer over a mapping",
        "This Node may have been built without external buffers; use the Node that comes with HyperFlux");
  }
  return Napi::Value(env, buffer);
}

void* AllocatePages(size_t bytes) {
  void* base =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  return base == MAP_FAILED ? nullptr : base;
}
