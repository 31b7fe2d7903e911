// SPDX-License-Identifier: Apache-2.0
// The releaser for JavaScript.
#include <errno.h>

#include "addon.h"
#include "args.h"
#include "bind.h"
#include "fail.h"
#include "releaser.h"
#include "tsc.h"

namespace {

Shelf<Releaser>& shelf() {
  static auto* const the = new Shelf<Releaser>;
  return *the;
}

Napi::Value Poll(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), Self<Releaser>(info).Turn());
}

Napi::Value Add(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  int64_t slot;
  int control_fd;
  int load_fd;
  if (!args.Int(0, "slot", 0, FLUX_MAX_VMS - 1, &slot) || !args.Fd(1, "controlPageFd", &control_fd) ||
      !args.Fd(2, "loadFd", &load_fd)) {
    return env.Undefined();
  }
  std::string why;
  const int err = Self<Releaser>(info).Add(static_cast<uint32_t>(slot), control_fd, load_fd, &why);
  if (err != 0) return FailWith(env, err, why);
  return env.Undefined();
}

Napi::Value Remove(const Napi::CallbackInfo& info) {
  int64_t slot;
  if (!Args(info).Int(0, "slot", 0, FLUX_MAX_VMS - 1, &slot)) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), Self<Releaser>(info).Remove(static_cast<uint32_t>(slot)));
}

Napi::Value RunThread(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  int64_t core;
  int64_t fifo;
  std::string spin;
  if (!args.Int(0, "core", -1, FLUX_MAX_CORES - 1, &core) || !args.Int(1, "fifo", 0, 99, &fifo) ||
      !args.Text(2, "spin", 16, &spin)) {
    return env.Undefined();
  }
  if (spin != "busy" && spin != "hybrid") {
    FailRange(env, "spin must be 'busy' or 'hybrid', not '" + spin + "'");
    return env.Undefined();
  }
  // Before the thread is there: the first measurement takes a while.
  TscKhz();
  Releaser::ThreadOptions options;
  options.core = static_cast<int>(core);
  options.fifo = static_cast<int>(fifo);
  options.hybrid = spin == "hybrid";
  bool is_fifo;
  const int err = Self<Releaser>(info).RunThread(options, &is_fifo);
  if (err == EBUSY) return FailWith(env, err, "this releaser has a thread already; stop it first");
  if (err != 0)
    return Fail(env, err, "cannot start the releaser's thread",
                "Is its core online and in this process's cpuset?");
  return Napi::Boolean::New(env, is_fifo);
}

Napi::Value Stop(const Napi::CallbackInfo& info) {
  Self<Releaser>(info).StopThread();
  return info.Env().Undefined();
}

Napi::Value Wrap(Napi::Env env, const std::shared_ptr<Releaser>& releaser) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("id", releaser->id);
  Bind<Releaser, Add>(result, "add", releaser);
  Bind<Releaser, Remove>(result, "remove", releaser);
  Bind<Releaser, Poll>(result, "poll", releaser);
  Bind<Releaser, RunThread>(result, "runThread", releaser);
  Bind<Releaser, Stop>(result, "stop", releaser);
  return result;
}

Napi::Value ReleaserOpen(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::shared_ptr<Region> table;
  if (!Args(info).Shared(0, "table", &table)) return env.Undefined();
  const auto* head = static_cast<const flux_table*>(table->base);
  if (table->bytes < FLUX_TABLE_BYTES || head->magic != FLUX_TABLE_MAGIC ||
      head->abi_major != FLUX_ABI_MAJOR) {
    return FailWith(env, EINVAL,
                    "this mapping is not a hand-off table of ABI major " + std::to_string(FLUX_ABI_MAJOR) +
                        ". Fill it in with initTable first");
  }
  auto releaser = std::make_shared<Releaser>(table);
  releaser->id = shelf().Put(releaser);
  return Wrap(env, releaser);
}

Napi::Value ReleaserWrap(const Napi::CallbackInfo& info) {
  int64_t id;
  if (!Args(info).Int(0, "id", 1, UINT32_MAX, &id)) return info.Env().Undefined();
  const std::shared_ptr<Releaser> releaser = shelf().Get(static_cast<uint32_t>(id));
  if (releaser == nullptr) {
    return Fail(info.Env(), ENOENT, "no releaser has the id " + std::to_string(id),
                "The thread that made it must keep it until the others have wrapped it");
  }
  return Wrap(info.Env(), releaser);
}

}  // namespace

void InitReleaser(Napi::Object exports) {
  Export<ReleaserOpen>(exports, "releaserOpen");
  Export<ReleaserWrap>(exports, "releaserWrap");
}
