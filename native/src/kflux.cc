// SPDX-License-Identifier: Apache-2.0
// kFlux for those who make domains and VMs or only look: the bridge over it is in bridge.cc. The protocol is
// in the Rust crate `handoff` (flux_handoff.h).
#include "kflux_errors.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "abi.h"
#include "addon.h"
#include "args.h"
#include "bind.h"
#include "fail.h"

namespace {

constexpr const char* kDevice = "/dev/kflux";
constexpr const char* kCapability =
    "CAP_SYS_NICE in the initial user namespace, which root has and packaging/hyperflux.service gives";

std::string Text(uint32_t major, uint32_t minor) {
  return std::to_string(major) + "." + std::to_string(minor);
}

// The module's version and ABI in words, for a message that has to name both sides.
std::string Versions(const struct flux_kf_hello& hello) {
  const std::string version(hello.version, strnlen(hello.version, sizeof hello.version));
  return "the loaded kFlux " + version + " has ABI " + Text(hello.abi_major, hello.abi_minor) +
         ", this addon " + Text(FLUX_ABI_MAJOR, FLUX_ABI_MINOR);
}

std::string GroupOf(gid_t gid) {
  char buffer[1024];
  struct group entry;
  struct group* found = nullptr;
  if (getgrgid_r(gid, &entry, buffer, sizeof buffer, &found) == 0 && found != nullptr) return entry.gr_name;
  return std::to_string(gid);
}

std::string NextStep(int err) {
  struct stat device;
  const bool there = stat(kDevice, &device) == 0;
  if (!there) {
    return std::string("There is no ") + kDevice + ". Load the module: sudo hyperflux kmod load";
  }
  const std::string group = GroupOf(device.st_gid);
  switch (err) {
    case EACCES:
      return std::string(kDevice) + " is for the group " + group +
             ". Join it (sudo usermod -aG hyperflux $USER, after hyperflux kmod install), and mind that " +
             "commanding cores needs " + kCapability;
    case EPERM:
      return std::string("It needs ") + kCapability + "; the group of " + kDevice + ", " + group +
             ", is enough to look on and no more";
    case EPROTO:
      return "Load the module of this clone: hyperflux kmod unload, install and load, as root";
    case ENOENT:
      return "The domain that the table names is gone, and with it whoever kept it. Start the daemon anew";
    case EBUSY:
      return "Another arbiter of this host has some of these cores, or the lease. Give the daemon others "
             "with --cores, or stop the other one";
    case EEXIST:
      return "The slot has a VM that has not ended yet";
    case ESTALE:
      return "Another arbiter has taken the lease, or this one was silent for too long";
    case ENODEV:
      return "A core is offline";
    default:
      return "";
  }
}

Napi::Value Hello(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  struct flux_kf_hello answer = {};
  const int32_t result = flux_kflux_hello(&answer);
  if (result < 0) return FailKflux(env, -result, "kFlux cannot be used");
  Napi::Object hello = Napi::Object::New(env);
  hello.Set("major", answer.abi_major);
  hello.Set("minor", answer.abi_minor);
  hello.Set("version", std::string(answer.version, strnlen(answer.version, sizeof answer.version)));
  return hello;
}

// Maps the pages of the table's domain over it, if it has one.
Napi::Value Overlay(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::shared_ptr<Region> table;
  if (!Args(info).Shared(0, "table", &table)) return env.Undefined();
  const int32_t result = flux_table_overlay(table->base, table->bytes);
  if (result < 0) return FailKflux(env, -result, "cannot map kFlux's pages over the hand-off table");
  return Napi::Boolean::New(env, result == 1);
}

Napi::Value Join(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::shared_ptr<Region> table;
  if (!Args(info).Shared(0, "table", &table)) return env.Undefined();
  const int32_t fd = flux_kflux_join(table->base, table->bytes);
  if (fd < 0) return FailKflux(env, -fd, "cannot join the table's kFlux domain");
  return Napi::Number::New(env, fd);
}

Napi::Value CreateVm(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  int domain;
  int64_t slot;
  int64_t vcpus;
  if (!args.Fd(0, "domainFd", &domain) || !args.Int(1, "slot", 0, FLUX_MAX_VMS - 1, &slot) ||
      !args.Int(2, "vcpus", 1, FLUX_MAX_VCPUS, &vcpus)) {
    return env.Undefined();
  }
  const int32_t fd = flux_kflux_vm_create(domain, static_cast<uint32_t>(slot), static_cast<uint32_t>(vcpus));
  if (fd < 0) return FailKflux(env, -fd, "kFlux cannot make a VM in slot " + std::to_string(slot));
  return Napi::Number::New(env, fd);
}

}  // namespace

Napi::Value FailKflux(Napi::Env env, int err, const std::string& what) {
  struct flux_kf_hello hello = {};
  // The question is answered with both versions even if they do not fit.
  if (err == EPROTO && flux_kflux_hello(&hello) == -EPROTO) {
    return FailWith(env, err, what + ": " + Versions(hello) + ". " + NextStep(err));
  }
  return Fail(env, err, what, NextStep(err));
}

void InitKflux(Napi::Object exports) {
  Export<Hello>(exports, "kfluxHello");
  Export<Overlay>(exports, "tableOverlay");
  Export<Join>(exports, "kfluxJoin");
  Export<CreateVm>(exports, "kfluxCreateVm");
}
