// SPDX-License-Identifier: Apache-2.0
// The twin and its stage for JavaScript. For `hyperflux bench loop` and its tests only.
#include <errno.h>
#include <string.h>

#include "addon.h"
#include "args.h"
#include "bind.h"
#include "fail.h"
#include "twin_signal.h"
#include "twin_stage.h"

namespace {

using Chunk = void (*)(TwinState&, int32_t);

struct Twin {
  std::shared_ptr<Region> arena;
  std::shared_ptr<Region> table;
  std::shared_ptr<Region> control;
  std::shared_ptr<Region> samples;
  std::shared_ptr<Region> batch;  // the TypeScript loop's; the twin has its own
  std::shared_ptr<Region> memory;
  TwinState* state = nullptr;
  Chunk chunk = nullptr;
  const char* level = "";
  Signaller signaller;
};

struct Level {
  const char* name;
  Chunk chunk;
  bool supported;
};

// Takes the level of this name, or the best one that this CPU has.
bool ChooseLevel(Twin& twin, const char* wanted) {
  __builtin_cpu_init();
  // Feature by feature, because not every compiler knows the levels by name here. A CPU that has these has
  // the rest.
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  const Level levels[] = {
      {"x86-64-v4", TwinChunkV4, v4},
      {"x86-64-v3", TwinChunkV3, v3},
      {"x86-64", TwinChunkBase, true},
  };
  for (const Level& level : levels) {
    if (!level.supported || (wanted != nullptr && strcmp(wanted, level.name) != 0)) continue;
    twin.chunk = level.chunk;
    twin.level = level.name;
    return true;
  }
  return false;
}

Napi::Value UseLevel(const Napi::CallbackInfo& info) {
  std::string name;
  if (!Args(info).Text(0, "level", 32, &name)) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), ChooseLevel(Self<Twin>(info), name.c_str()));
}

void ClockNow(Twin& twin) { StageClock(twin.state->stage); }

napi_value Result(napi_env env, int32_t value) {
  napi_value result = nullptr;
  napi_create_int32(env, value, &result);
  return result;
}

napi_value Submit(napi_env env, Twin& twin, napi_value argument) {
  int32_t count = -1;
  if (napi_get_value_int32(env, argument, &count) != napi_ok || count < 0 || count > kBatchCommands) {
    FailRange(env, "count must be 0 to " + std::to_string(kBatchCommands) + ", the batch's capacity");
    return nullptr;
  }
  return Result(env, StageSubmit(twin.state->stage, static_cast<int32_t*>(twin.batch->base), count));
}

napi_value Poll(napi_env env, Twin&, napi_value) { return Result(env, 0); }

void Beat(Twin& twin) { StageBeat(twin.state->stage); }

Napi::Value RunChunk(const Napi::CallbackInfo& info) {
  int64_t n;
  if (!Args(info).Int(0, "n", 1, INT32_MAX, &n)) return info.Env().Undefined();
  Twin& twin = Self<Twin>(info);
  twin.chunk(*twin.state, static_cast<int32_t>(n));
  return info.Env().Undefined();
}

// Chunks until the signaller is done, as a loop's thread would do them.
Napi::Value RunUntilDone(const Napi::CallbackInfo& info) {
  int64_t n;
  if (!Args(info).Int(0, "n", 1, INT32_MAX, &n)) return info.Env().Undefined();
  Twin& twin = Self<Twin>(info);
  // Acquire: pairs with the signaller's release after its last sample.
  while (__atomic_load_n(&twin.state->stage.control->done, __ATOMIC_ACQUIRE) == 0)
    twin.chunk(*twin.state, static_cast<int32_t>(n));
  return info.Env().Undefined();
}

Napi::Value Manage(const Napi::CallbackInfo& info) {
  int32_t* cores;
  size_t count;
  if (!Args(info).Int32s(0, "cores", &cores, &count)) return info.Env().Undefined();
  bool good = count <= FLUX_MAX_CORES;
  for (size_t k = 0; good && k < count; k++)
    good = cores[k] >= 0 && cores[k] < FLUX_MAX_CORES;
  if (!good) {
    FailRange(info.Env(), "cores must hold core numbers from 0 to " + std::to_string(FLUX_MAX_CORES - 1));
    return info.Env().Undefined();
  }
  TwinManage(*Self<Twin>(info).state, cores, static_cast<int>(count));
  return info.Env().Undefined();
}

template <void (*Do)(TwinState&, int32_t)>
Napi::Value WithSlot(const Napi::CallbackInfo& info) {
  int64_t slot;
  if (!Args(info).Int(0, "slot", 0, FLUX_MAX_VMS - 1, &slot)) return info.Env().Undefined();
  Do(*Self<Twin>(info).state, static_cast<int32_t>(slot));
  return info.Env().Undefined();
}

// The policy's parameters in stamps (threshold, tenure, quantum, step), then the guard's pace.
Napi::Value Configure(const Napi::CallbackInfo& info) {
  int32_t* times;
  size_t count;
  if (!Args(info).Int32s(0, "times", &times, &count)) return info.Env().Undefined();
  if (count != 9) {
    FailRange(info.Env(), "times must have 9 elements");
    return info.Env().Undefined();
  }
  memcpy(Self<Twin>(info).state->times, times, sizeof(int32_t) * 4);
  memcpy(Self<Twin>(info).state->pace, times + 4, sizeof(int32_t) * 5);
  return info.Env().Undefined();
}

Napi::Value Signal(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  int64_t core;
  int64_t events;
  if (!args.Int(0, "core", 0, FLUX_MAX_CORES - 1, &core)) return env.Undefined();
  Twin& twin = Self<Twin>(info);
  if (!args.Int(1, "events", 1, twin.state->stage.max_samples, &events)) return env.Undefined();
  const int err =
      twin.signaller.Start(twin.state->stage, static_cast<int>(core), static_cast<uint32_t>(events));
  if (err != 0) return Fail(env, err, "cannot start a thread on core " + std::to_string(core));
  return env.Undefined();
}

Napi::Value SignalEnd(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), Self<Twin>(info).signaller.Join());
}

Napi::Object Fields(Napi::Env env) {
  Napi::Object fields = Napi::Object::New(env);
#define FIELD(name, count)                                                              \
  {                                                                                     \
    Napi::Array at = Napi::Array::New(env, 2);                                          \
    at.Set(0U, static_cast<double>(offsetof(TwinState, v) + offsetof(TwinView, name))); \
    at.Set(1U, static_cast<double>(count));                                             \
    fields.Set(#name, at);                                                              \
  }
  TWIN_VIEW(FIELD)
#undef FIELD
  return fields;
}

Napi::Object Words(Napi::Env env) {
  Napi::Object words = Napi::Object::New(env);
#define WORD(name) words.Set(#name, static_cast<double>(offsetof(TwinControl, name) / 4))
  WORD(samples);
  WORD(call);
  WORD(started);
  WORD(cursor);
  WORD(turn);
  WORD(turns_per_sample);
  WORD(calls_per_turn);
  WORD(fixed);
  WORD(fixed_lo);
  WORD(fixed_hi);
  WORD(vms);
  WORD(changing);
  WORD(rotate);
  WORD(age);
  WORD(refuse);
  WORD(commands);
  WORD(done);
#undef WORD
  return words;
}

bool Allocate(std::shared_ptr<Region>* region, size_t bytes) {
  bytes = (bytes + 4095) & ~static_cast<size_t>(4095);
  void* pages = AllocatePages(bytes);
  if (pages == nullptr) return false;
  *region = Region::Adopt(pages, bytes);
  return true;
}

void Reset(Twin& twin, uint32_t khz, int shift, uint32_t max_samples) {
  TwinState& s = *twin.state;
  for (int32_t& i : s.dense)
    i = -1;
  for (int32_t* list : {s.v.coreVm, s.v.coreLast, s.v.coreHeir, s.v.target, s.v.heir, s.v.allowed,
                        s.core_guest, s.core_owner, s.paced_from})
    for (int k = 0; k < FLUX_MAX_CORES; k++)
      list[k] = -1;
  s.ns_per_tick = 1e6 / khz;
  s.stage.control = static_cast<TwinControl*>(twin.control->base);
  s.stage.arena = static_cast<int32_t*>(twin.arena->base);
  s.stage.table = static_cast<int32_t*>(twin.table->base);
  s.stage.samples = static_cast<uint32_t*>(twin.samples->base);
  s.stage.max_samples = max_samples;
  s.stage.shift = shift;
}

Napi::Value TwinOpen(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  auto twin = std::make_shared<Twin>();
  int64_t khz;
  int64_t shift;
  int64_t samples;
  if (!args.Shared(0, "arena", &twin->arena) || !args.Shared(1, "table", &twin->table) ||
      !args.Int(2, "tscKhz", 1, UINT32_MAX, &khz) || !args.Int(3, "stampShift", 0, 31, &shift) ||
      !args.Int(4, "maxSamples", 1, 1 << 26, &samples)) {
    return env.Undefined();
  }
  if (twin->arena->slots != FLUX_MAX_VMS || twin->arena->stride != FLUX_HOT_BYTES ||
      twin->table->bytes < FLUX_TABLE_BYTES) {
    return Fail(env, EINVAL, "the twin needs a whole arena and a whole hand-off table");
  }
  if (!Allocate(&twin->control, sizeof(TwinControl)) ||
      !Allocate(&twin->samples, static_cast<size_t>(samples) * 4) ||
      !Allocate(&twin->batch, sizeof(int32_t) * kBatchCommands * FLUX_CMD_WORDS) ||
      !Allocate(&twin->memory, sizeof(TwinState))) {
    return Fail(env, ENOMEM, "no memory for the twin");
  }
  twin->state = static_cast<TwinState*>(twin->memory->base);
  Reset(*twin, static_cast<uint32_t>(khz), static_cast<int>(shift), static_cast<uint32_t>(samples));
  ChooseLevel(*twin, nullptr);

  Napi::Object result = Napi::Object::New(env);
  result.Set("level", twin->level);
  result.Set("compiler", __VERSION__);
  result.Set("control", Region::Wrap(env, twin->control));
  result.Set("samples", Region::Wrap(env, twin->samples));
  result.Set("batch", Region::Wrap(env, twin->batch));
  result.Set("capacity", kBatchCommands);
  result.Set("state", Region::Wrap(env, twin->memory));
  result.Set("stateBatch", static_cast<double>(offsetof(TwinState, batch)));
  result.Set("fields", Fields(env));
  result.Set("words", Words(env));
  BindBare<Twin, ClockNow>(result, "now", twin);
  BindFast<Twin, Submit>(result, "submit", twin);
  BindFast<Twin, Poll>(result, "poll", twin);
  BindBare<Twin, Beat>(result, "beat", twin);
  Bind<Twin, RunChunk>(result, "chunk", twin);
  Bind<Twin, RunUntilDone>(result, "runUntilDone", twin);
  Bind<Twin, Manage>(result, "manage", twin);
  Bind<Twin, WithSlot<TwinAttach>>(result, "attach", twin);
  Bind<Twin, WithSlot<TwinDetach>>(result, "detach", twin);
  Bind<Twin, Configure>(result, "configure", twin);
  Bind<Twin, UseLevel>(result, "useLevel", twin);
  Bind<Twin, Signal>(result, "signal", twin);
  Bind<Twin, SignalEnd>(result, "signalEnd", twin);
  return result;
}

}  // namespace

void InitTwin(Napi::Object exports) { Export<TwinOpen>(exports, "twinOpen"); }
