// SPDX-License-Identifier: Apache-2.0
// The arbiter's half of the hand-over protocol for JavaScript, over the table alone or over kFlux. The
// protocol is in the Rust crate `handoff` (flux_handoff.h); this file gives its functions to the loop without
// any allocation on the way.
#include <errno.h>
#include <limits.h>
#include <sched.h>

#include <atomic>

#include "abi.h"
#include "addon.h"
#include "args.h"
#include "bind.h"
#include "fail.h"
#include "kflux_errors.h"
#include "tsc.h"

namespace {

constexpr int64_t kMaxBatch = 4096;

// Keeps setPage out while the loop's thread is inside submit or poll, as the header asks. Nobody holds it for
// longer than such a call.
class Turnstile {
 public:
  void lock() {
    // Whoever holds it may have been preempted by this very thread, so the core is given up now and then.
    for (uint32_t spins = 1; taken_.exchange(true, std::memory_order_acquire); spins++) {
      if (spins % 1024 == 0) sched_yield();
      __builtin_ia32_pause();
    }
  }
  void unlock() { taken_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> taken_{false};
};

struct Bridge {
  flux_bridge* raw = nullptr;
  uint32_t id = 0;
  // The table and every arena whose pages the bridge was given, mapped for as long as it lives.
  std::shared_ptr<Region> table;
  std::shared_ptr<Region> arena;
  // Belongs to the bridge, so that no trick with the ArrayBuffer can take the memory away from under it.
  std::shared_ptr<Region> batch;
  uint32_t capacity = 0;
  // Cores are moved by kFlux. Once true it stays so.
  std::atomic<bool> kflux{false};
  Turnstile turnstile;

  ~Bridge() {
    if (raw != nullptr) flux_bridge_free(raw);
  }
};

Shelf<Bridge>& shelf() {
  static auto* const the = new Shelf<Bridge>;
  return *the;
}

napi_value Result(napi_env env, int32_t value) {
  napi_value result = nullptr;
  napi_create_int32(env, value, &result);
  return result;
}

napi_value Submit(napi_env env, Bridge& bridge, napi_value argument) {
  int32_t count = -1;
  if (napi_get_value_int32(env, argument, &count) != napi_ok || count < 0 ||
      static_cast<uint32_t>(count) > bridge.capacity) {
    FailRange(env, "count must be 0 to " + std::to_string(bridge.capacity) + ", the batch's capacity");
    return nullptr;
  }
  bridge.turnstile.lock();
  const int32_t failed =
      flux_bridge_submit(bridge.raw, static_cast<int32_t*>(bridge.batch->base), static_cast<uint32_t>(count));
  bridge.turnstile.unlock();
  return Result(env, failed);
}

napi_value Poll(napi_env env, Bridge& bridge, napi_value) {
  bridge.turnstile.lock();
  const int32_t in_flight = flux_bridge_poll(bridge.raw);
  bridge.turnstile.unlock();
  return Result(env, in_flight);
}

void Beat(Bridge& bridge) { flux_bridge_beat(bridge.raw); }

Napi::Value Claim(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  int64_t pid;
  int64_t core;
  cpu_set_t cores;
  if (!args.Int(0, "pid", 1, INT_MAX, &pid) || !args.Int(1, "arbiterCore", 0, FLUX_MAX_CORES - 1, &core) ||
      !args.Cores(2, "managedCores", &cores)) {
    return env.Undefined();
  }
  uint32_t managed[8] = {};
  for (int c = 0; c < FLUX_MAX_CORES; c++)
    if (CPU_ISSET(c, &cores)) managed[c / 32] |= 1U << (c % 32);
  Bridge& bridge = Self<Bridge>(info);
  bridge.turnstile.lock();
  const int64_t epoch =
      flux_bridge_claim(bridge.raw, static_cast<uint32_t>(pid), static_cast<uint32_t>(core), managed);
  bridge.turnstile.unlock();
  if (epoch < 0) {
    const std::string what = "cannot take the lease on the hand-off table";
    return bridge.kflux ? FailKflux(env, static_cast<int>(-epoch), what)
                        : Fail(env, static_cast<int>(-epoch), what);
  }
  return Napi::Number::New(env, static_cast<double>(epoch));
}

Napi::Value Release(const Napi::CallbackInfo& info) {
  Bridge& bridge = Self<Bridge>(info);
  bridge.turnstile.lock();
  const int32_t result = flux_bridge_release(bridge.raw);
  bridge.turnstile.unlock();
  if (result < 0)
    return Fail(info.Env(), -result, "cannot give the lease back", "Another arbiter may hold it by now");
  return info.Env().Undefined();
}

Napi::Value SetPage(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  int64_t slot;
  if (!args.Int(0, "slot", 0, FLUX_MAX_VMS - 1, &slot)) return env.Undefined();
  void* hot = nullptr;
  std::shared_ptr<Region> arena;
  if (!info[1].IsNull()) {
    if (!args.Shared(1, "arena", &arena)) return env.Undefined();
    if (slot >= arena->slots) {
      FailRange(env, "slot " + std::to_string(slot) + " is not in the arena, which has " +
                         std::to_string(arena->slots));
      return env.Undefined();
    }
    hot = static_cast<uint8_t*>(arena->base) + static_cast<size_t>(slot) * arena->stride;
  }
  Bridge& bridge = Self<Bridge>(info);
  if (arena != nullptr && bridge.arena != nullptr && bridge.arena != arena) {
    return FailWith(env, EINVAL,
                    "a bridge takes its pages from one arena. Pass the same arena at every setPage");
  }
  bridge.turnstile.lock();
  const int32_t result = flux_bridge_set_page(bridge.raw, static_cast<uint32_t>(slot), hot);
  if (result >= 0 && arena != nullptr) bridge.arena = arena;
  bridge.turnstile.unlock();
  if (result < 0) return Fail(env, -result, "cannot set the control page of slot " + std::to_string(slot));
  return env.Undefined();
}

Napi::Value StartDeadlines(const Napi::CallbackInfo& info) {
  const int32_t result = flux_bridge_start_deadlines(Self<Bridge>(info).raw);
  if (result < 0) return Fail(info.Env(), -result, "cannot start the thread that keeps deadlines");
  return Napi::Boolean::New(info.Env(), result == 1);
}

Napi::Value Reap(const Napi::CallbackInfo& info) {
  int64_t slot;
  if (!Args(info).Int(0, "slot", 0, FLUX_MAX_VMS - 1, &slot)) return info.Env().Undefined();
  const int32_t result = flux_bridge_reap(Self<Bridge>(info).raw, static_cast<uint32_t>(slot));
  if (result < 0) return Fail(info.Env(), -result, "cannot reap slot " + std::to_string(slot));
  return Napi::Number::New(info.Env(), result);
}

Napi::Value UseKflux(const Napi::CallbackInfo& info) {
  Bridge& bridge = Self<Bridge>(info);
  bridge.turnstile.lock();
  const int32_t result = flux_bridge_use_kflux(bridge.raw);
  if (result >= 0) bridge.kflux = true;
  bridge.turnstile.unlock();
  if (result < 0) return FailKflux(info.Env(), -result, "the bridge cannot be switched to kFlux");
  return info.Env().Undefined();
}

Napi::Value UsesKflux(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), Self<Bridge>(info).kflux);
}

Napi::Value Wrap(Napi::Env env, const std::shared_ptr<Bridge>& bridge) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("id", bridge->id);
  result.Set("batch", Region::Wrap(env, bridge->batch));
  result.Set("capacity", bridge->capacity);
  Bind<Bridge, Claim>(result, "claim", bridge);
  Bind<Bridge, Release>(result, "release", bridge);
  Bind<Bridge, SetPage>(result, "setPage", bridge);
  BindFast<Bridge, Submit>(result, "submit", bridge);
  BindFast<Bridge, Poll>(result, "poll", bridge);
  BindBare<Bridge, Beat>(result, "beat", bridge);
  Bind<Bridge, StartDeadlines>(result, "startDeadlines", bridge);
  Bind<Bridge, Reap>(result, "reap", bridge);
  Bind<Bridge, UseKflux>(result, "useKflux", bridge);
  Bind<Bridge, UsesKflux>(result, "usesKflux", bridge);
  return result;
}

Napi::Value BridgeOpen(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  auto bridge = std::make_shared<Bridge>();
  int64_t capacity;
  if (!args.Shared(0, "table", &bridge->table) || !args.Int(1, "capacity", 1, kMaxBatch, &capacity))
    return env.Undefined();
  const size_t bytes = static_cast<size_t>(capacity) * FLUX_CMD_WORDS * sizeof(int32_t);
  void* batch = AllocatePages(bytes);
  if (batch == nullptr) return Fail(env, ENOMEM, "no memory for a batch of commands");
  bridge->batch = Region::Adopt(batch, bytes);
  bridge->capacity = static_cast<uint32_t>(capacity);
  int32_t err = 0;
  bridge->raw = flux_bridge_new(bridge->table->base, bridge->table->bytes, &err);
  if (bridge->raw == nullptr) {
    return Fail(env, err < 0 ? -err : err, "this mapping is not a hand-off table that the bridge can use",
                "It needs FLUX_TABLE_BYTES bytes, filled in by initTable, of ABI major " +
                    std::to_string(FLUX_ABI_MAJOR));
  }
  bridge->id = shelf().Put(bridge);
  return Wrap(env, bridge);
}

Napi::Value BridgeWrap(const Napi::CallbackInfo& info) {
  int64_t id;
  if (!Args(info).Int(0, "id", 1, UINT32_MAX, &id)) return info.Env().Undefined();
  const std::shared_ptr<Bridge> bridge = shelf().Get(static_cast<uint32_t>(id));
  if (bridge == nullptr) {
    return FailWith(info.Env(), ENOENT,
                    "no bridge has the id " + std::to_string(id) +
                        ". The thread that opened it must keep it until the others have wrapped it");
  }
  return Wrap(info.Env(), bridge);
}

Napi::Value TableInit(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  std::shared_ptr<Region> table;
  int64_t khz;
  int64_t shift;
  if (!args.Shared(0, "table", &table) || !args.Int(1, "tscKhz", 1, UINT32_MAX, &khz) ||
      !args.Int(2, "stampShift", 0, 31, &shift)) {
    return env.Undefined();
  }
  const int32_t result =
      flux_table_init(table->base, table->bytes, static_cast<uint32_t>(khz), static_cast<uint32_t>(shift));
  if (result < 0) {
    return Fail(env, -result, "cannot make a hand-off table of this mapping",
                "It must be new, zeroed and " + std::to_string(FLUX_TABLE_BYTES) + " bytes long");
  }
  return env.Undefined();
}

Napi::Value TableCheck(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::shared_ptr<Region> table;
  if (!Args(info).Shared(0, "table", &table)) return env.Undefined();
  const int32_t result = flux_table_check(table->base, table->bytes);
  if (result == -EPROTO) {
    const flux_table* head = static_cast<const flux_table*>(table->base);
    return FailWith(env, EPROTO,
                    "the hand-off table has ABI " + std::to_string(head->abi_major) + "." +
                        std::to_string(head->abi_minor) + ", this addon " + std::to_string(FLUX_ABI_MAJOR) +
                        "." + std::to_string(FLUX_ABI_MINOR) +
                        ". Use programs of one version; running VMs stay unmanaged until then");
  }
  if (result < 0) return Fail(env, -result, "this is not a hand-off table");
  return env.Undefined();
}

}  // namespace

void InitBridge(Napi::Object exports) {
  Export<BridgeOpen>(exports, "bridgeOpen");
  Export<BridgeWrap>(exports, "bridgeWrap");
  Export<TableInit>(exports, "tableInit");
  Export<TableCheck>(exports, "tableCheck");
}
