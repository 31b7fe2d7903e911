// SPDX-License-Identifier: Apache-2.0
// TSC: reading it without allocating, and how fast it ticks.
#include <cpuid.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>

#include <mutex>

#include "addon.h"
#include "args.h"
#include "bind.h"
#include "fail.h"
#include "tsc.h"

namespace {

// One moment on both clocks. Taken as the tightest of several tries, because an interrupt may fall in
// between.
struct Moment {
  uint64_t tsc;
  double ns;
};

Moment TakeMoment() {
  Moment best = {0, 0};
  uint64_t narrowest = UINT64_MAX;
  for (int i = 0; i < 16; i++) {
    struct timespec ts;
    const uint64_t before = TscNow();
    clock_gettime(CLOCK_MONOTONIC, &ts);
    const uint64_t after = TscNow();
    if (after - before < narrowest) {
      narrowest = after - before;
      best.tsc = before + (after - before) / 2;
      best.ns = static_cast<double>(ts.tv_sec) * 1e9 + static_cast<double>(ts.tv_nsec);
    }
  }
  return best;
}

// The median of five spans of 10 ms.
double MeasureKhz() {
  double khz[5];
  for (double& span : khz) {
    const Moment from = TakeMoment();
    const struct timespec pause = {0, 10000000L};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
    const Moment to = TakeMoment();
    span = static_cast<double>(to.tsc - from.tsc) * 1e6 / (to.ns - from.ns);
  }
  for (int i = 1; i < 5; i++)
    for (int k = i; k > 0 && khz[k] < khz[k - 1]; k--) {
      const double swap = khz[k];
      khz[k] = khz[k - 1];
      khz[k - 1] = swap;
    }
  return khz[2];
}

double SysKhz() {
  FILE* file = fopen("/sys/devices/system/cpu/cpu0/tsc_freq_khz", "re");
  if (file == nullptr) return 0;
  long khz = 0;
  if (fscanf(file, "%ld", &khz) != 1) khz = 0;  // NOLINT(cert-err34-c): checked against the measurement
  fclose(file);
  return static_cast<double>(khz);
}

double CpuidKhz() {
  unsigned a, b, c, d;
  // Leaf 0x15: crystal frequency and its ratio to the TSC.
  if (__get_cpuid_max(0, nullptr) >= 0x15) {
    __cpuid(0x15, a, b, c, d);
    if (a != 0 && b != 0 && c != 0) return static_cast<double>(c) * b / a / 1000;
  }
  return 0;
}

double HypervisorKhz() {
  unsigned a, b, c, d;
  __cpuid(1, a, b, c, d);
  if ((c & (1U << 31)) == 0) return 0;
  __cpuid(0x40000000, a, b, c, d);
  if (a < 0x40000010 || a > 0x400000ff) return 0;
  __cpuid(0x40000010, a, b, c, d);
  return a;
}

struct Calibration {
  uint32_t khz = 0;
  const char* source = "";
  double measured = 0;
};

Calibration Calibrate() {
  Calibration result;
  result.measured = MeasureKhz();
  result.khz = static_cast<uint32_t>(lround(result.measured));
  result.source = "measured";
  const struct {
    const char* source;
    double khz;
  } claims[] = {{"sysfs", SysKhz()}, {"cpuid", CpuidKhz()}, {"hypervisor", HypervisorKhz()}};
  for (const auto& claim : claims) {
    // A claim is exact if it is true; it is believed only where the measurement agrees.
    if (claim.khz > 0 && fabs(claim.khz - result.measured) < result.measured * 0.001) {
      result.khz = static_cast<uint32_t>(lround(claim.khz));
      result.source = claim.source;
      break;
    }
  }
  return result;
}

const Calibration& TheCalibration() {
  static std::mutex mutex;
  static Calibration calibration;
  const std::lock_guard<std::mutex> lock(mutex);
  if (calibration.khz == 0) calibration = Calibrate();
  return calibration;
}

Napi::Value CalibrateTsc(const Napi::CallbackInfo& info) {
  const Calibration& found = TheCalibration();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("khz", found.khz);
  result.Set("source", found.source);
  result.Set("measured", found.measured);
  return result;
}

void Store(int32_t* out, uint64_t tsc) {
  // Low word first: the order of every pair in the contract.
  __atomic_store_n(&out[0], static_cast<int32_t>(tsc), __ATOMIC_RELAXED);
  __atomic_store_n(&out[1], static_cast<int32_t>(tsc >> 32), __ATOMIC_RELAXED);
}

Napi::Value TscInto(const Napi::CallbackInfo& info) {
  const Args args(info);
  int32_t* out;
  size_t length;
  int64_t index;
  if (!args.Int32s(0, "out", &out, &length)) return info.Env().Undefined();
  if (!args.Int(1, "index", 0, static_cast<int64_t>(length) - 2, &index)) return info.Env().Undefined();
  Store(out + index, TscNow());
  return info.Env().Undefined();
}

// For the loop: the words' address is known beforehand, so a call does nothing but read the counter.
struct Clock {
  std::shared_ptr<Region> region;
  int32_t* words = nullptr;
  int shift = 0;
};

void ClockNow(Clock& clock) { Store(clock.words, TscNow()); }

Napi::Value ClockStamp(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<int32_t>(TscNow() >> Self<Clock>(info).shift));
}

Napi::Value ClockOpen(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  int64_t shift;
  if (!Args(info).Int(0, "shift", 0, 31, &shift)) return env.Undefined();
  void* page = AllocatePages(4096);
  if (page == nullptr) return Fail(env, ENOMEM, "no memory for a clock");
  auto clock = std::make_shared<Clock>();
  clock->region = Region::Adopt(page, 4096);
  clock->words = static_cast<int32_t*>(page);
  clock->shift = static_cast<int>(shift);
  Napi::Object result = Napi::Object::New(env);
  result.Set("buffer", Region::Wrap(env, clock->region));
  BindBare<Clock, ClockNow>(result, "now", clock);
  Bind<Clock, ClockStamp>(result, "stamp", clock);
  return result;
}

}  // namespace

uint32_t TscKhz() { return TheCalibration().khz; }

void InitClock(Napi::Object exports) {
  Export<CalibrateTsc>(exports, "calibrateTsc");
  Export<TscInto>(exports, "tscNow");
  Export<ClockOpen>(exports, "clockOpen");
}
