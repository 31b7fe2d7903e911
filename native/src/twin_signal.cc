// SPDX-License-Identifier: Apache-2.0
#include "twin_signal.h"

#include <errno.h>

#include "probe.h"
#include "twin_stage.h"

namespace {

// A gap in this thread's own polling that is longer means that it was off its core.
constexpr uint64_t kOwnGapNs = 2000;
// A loop that gives no answer for so long is not running; the benchmark must end all the same.
constexpr uint64_t kGiveUpNs = 1000ULL * 1000 * 1000;
// Rest between two rounds, so that the loop has seen the queue empty and does nothing.
constexpr uint64_t kRestNs = 3000;

uint64_t Ticks(uint64_t ns) { return ns * TscKhz() / 1000000; }

}  // namespace

int Signaller::Start(const TwinStage& stage, int core, uint32_t events) {
  if (running_) return EBUSY;
  // Calibrated here, or the thread would spend its first rounds on it.
  TscKhz();
  stage_ = stage;
  events_ = events;
  dropped_ = 0;
  stage.control->samples = 0;
  __atomic_store_n(&stage.control->done, 0, __ATOMIC_RELEASE);
  const int err = StartPinned(&thread_, core, Main, this);
  running_ = err == 0;
  return err;
}

uint32_t Signaller::Join() {
  if (running_) pthread_join(thread_, nullptr);
  running_ = false;
  return dropped_;
}

void* Signaller::Main(void* self) {
  static_cast<Signaller*>(self)->Run();
  return nullptr;
}

void Signaller::Run() {
  TwinControl* control = stage_.control;
  // Counted here and told at the end: the loop writes the line of control->samples in each turn.
  uint32_t samples = 0;
  uint32_t random = 0x9e3779b9;
  for (uint32_t i = 0; i < events_; i++) {
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    // Rests of different lengths, so that the flag does not always rise at the same point of a turn.
    SpinNs(kRestNs + random % 2048);
    uint64_t ticks = 0;
    if (Round(random % control->vms, &ticks)) {
      stage_.samples[samples++] = ticks > UINT32_MAX ? UINT32_MAX : static_cast<uint32_t>(ticks);
    } else {
      dropped_++;
    }
  }
  control->samples = samples;
  // Release: pairs with the loop's look between two chunks; it then reads the samples.
  __atomic_store_n(&control->done, 1, __ATOMIC_RELEASE);
}

bool Signaller::Round(uint32_t slot, uint64_t* ticks) {
  TwinControl* control = stage_.control;
  const uint32_t before = __atomic_load_n(&control->commands, __ATOMIC_ACQUIRE);
  const uint64_t raised = TscNow();
  SetQueue(stage_.arena, slot, 1, static_cast<int32_t>(raised >> stage_.shift));
  uint64_t seen = raised;
  uint64_t gap = 0;
  // Acquire: pairs with the release in StageSubmit, after the command was written.
  while (__atomic_load_n(&control->commands, __ATOMIC_ACQUIRE) == before) {
    const uint64_t now = TscNow();
    if (now - seen > gap) gap = now - seen;
    seen = now;
    if (now - raised > Ticks(kGiveUpNs)) break;
  }
  const uint64_t answered = TscNow();
  if (answered - seen > gap) gap = answered - seen;
  SetQueue(stage_.arena, slot, 0, 0);
  *ticks = answered - raised;
  return gap <= Ticks(kOwnGapNs);
}
