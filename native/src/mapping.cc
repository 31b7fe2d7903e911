// SPDX-License-Identifier: Apache-2.0
// Sealed memory files and mappings of them.
#include "mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "addon.h"
#include "args.h"
#include "bind.h"
#include "fail.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace {

constexpr int64_t kMaxBytes = int64_t{1} << 40;
constexpr size_t kPage = 4096;

std::string Hex(size_t value) {
  char text[32];
  snprintf(text, sizeof text, "%zu (0x%zx)", value, value);
  return text;
}

Napi::Value CreateSealedMemfd(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  std::string name;
  int64_t bytes;
  // 249 is the kernel's limit for the name of a memfd.
  if (!args.Text(0, "name", 249, &name) || !args.Int(1, "bytes", 1, kMaxBytes, &bytes))
    return env.Undefined();

  int fd = memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  // Kernels before 6.3 do not know the last flag.
  if (fd < 0 && errno == EINVAL) fd = memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return Fail(env, errno, "cannot create the memory file '" + name + "'");
  if (ftruncate(fd, bytes) != 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    const int err = errno;
    close(fd);
    return Fail(env, err, "cannot size and seal the memory file '" + name + "'",
                "Is there enough memory left?");
  }
  return Napi::Number::New(env, fd);
}

Napi::Value MapShared(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  int fd;
  int64_t bytes;
  int64_t offset;
  bool sealed;
  if (!args.Fd(0, "fd", &fd) || !args.Int(1, "bytes", 1, kMaxBytes, &bytes) ||
      !args.Int(2, "offset", 0, kMaxBytes, &offset) || !args.Bool(3, "expectSealed", &sealed)) {
    return env.Undefined();
  }
  if (offset % static_cast<int64_t>(kPage) != 0) {
    FailRange(env, "offset must be a multiple of the page size, " + std::to_string(kPage));
    return env.Undefined();
  }
  std::string why;
  const int err = CheckMappable(fd, static_cast<size_t>(offset), static_cast<size_t>(bytes), sealed, &why);
  if (err != 0) return FailWith(env, err, why);
  // Populated at once: a page fault in the loop would cost it microseconds.
  void* base = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                    fd, offset);
  if (base == MAP_FAILED) {
    return Fail(
        env, errno,
        "cannot map " + Hex(static_cast<size_t>(bytes)) + " bytes of file descriptor " + std::to_string(fd));
  }
  return Region::Wrap(env, Region::Adopt(base, static_cast<size_t>(bytes)));
}

// Puts other pages under the ArrayBuffers and native users that a region has already. One system call
// replaces them: whoever reads meanwhile sees the old ones or the new ones.
Napi::Value RemapShared(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  std::shared_ptr<Region> region;
  int fd;
  if (!args.Shared(0, "buffer", &region) || !args.Fd(1, "fd", &fd)) return env.Undefined();
  if (region->slots != 0) {
    return FailWith(env, EINVAL, "the pages of an arena are exchanged slot by slot: attach and detach");
  }
  std::string why;
  const int err = CheckMappable(fd, 0, region->bytes, true, &why);
  if (err != 0) return FailWith(env, err, why);
  constexpr int kAccess = PROT_READ | PROT_WRITE;
  if (mmap(region->base, region->bytes, kAccess, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 0) !=
      MAP_FAILED) {
    return env.Undefined();
  }
  const int failed = errno;
  // The kernel may have removed the old pages before it failed; nobody must find a hole there. If this fails
  // as well there is nothing left to try, and the caller is told of the first failure.
  (void)mmap(region->base, region->bytes, kAccess, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  return Fail(env, failed, "cannot put other pages under a mapping");
}

Napi::Value ShareId(const Napi::CallbackInfo& info) {
  std::shared_ptr<Region> region;
  if (!Args(info).Shared(0, "buffer", &region)) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), region->id);
}

Napi::Value WrapShared(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  int64_t id;
  if (!Args(info).Int(0, "id", 1, UINT32_MAX, &id)) return env.Undefined();
  const std::shared_ptr<Region> region = Region::ById(static_cast<uint32_t>(id));
  if (region == nullptr) {
    return FailWith(env, ENOENT,
                    "no mapping has the id " + std::to_string(id) +
                        ". The thread that made it must keep its buffer until the others have wrapped it");
  }
  return Region::Wrap(env, region);
}

Napi::Value Unmap(const Napi::CallbackInfo& info) {
  std::shared_ptr<Region> region;
  if (!Args(info).Shared(0, "buffer", &region)) return info.Env().Undefined();
  // Detaching drops the buffer's hold; the pages go when nobody else holds them.
  if (napi_detach_arraybuffer(info.Env(), info[0]) != napi_ok) {
    return Fail(info.Env(), EBUSY, "this buffer cannot be detached");
  }
  return info.Env().Undefined();
}

}  // namespace

int CheckMappable(int fd, size_t offset, size_t bytes, bool sealed, std::string* why) {
  const std::string what = "file descriptor " + std::to_string(fd);
  struct stat st;
  if (fstat(fd, &st) != 0) {
    const int err = errno;
    *why = "cannot look at " + what + ": is it open?";
    return err;
  }
  if (sealed) {
    const int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW)) {
      *why = what +
             " is not sealed against shrinking and growing, so whoever truncates it would kill this process";
      return EPERM;
    }
  }
  // Asked after the seals: from here on the size cannot change any more.
  if (fstat(fd, &st) != 0 || st.st_size < 0 || static_cast<size_t>(st.st_size) < offset ||
      static_cast<size_t>(st.st_size) - offset < bytes) {
    *why = what + " is too short: it has " + Hex(static_cast<size_t>(st.st_size)) + " bytes, needed are " +
           Hex(offset + bytes);
    return EINVAL;
  }
  return 0;
}

void InitMapping(Napi::Object exports) {
  Export<CreateSealedMemfd>(exports, "createSealedMemfd");
  Export<MapShared>(exports, "mapShared");
  Export<RemapShared>(exports, "remapShared");
  Export<ShareId>(exports, "shareId");
  Export<WrapShared>(exports, "wrapShared");
  Export<Unmap>(exports, "unmap");
}
