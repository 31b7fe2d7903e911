// SPDX-License-Identifier: Apache-2.0
// A guest on another core for `hyperflux bench loop`: a thread that raises a flag in a control page and waits
// for the command that the loop writes upon it.
#ifndef HYPERFLUX_NATIVE_TWIN_SIGNAL_H
#define HYPERFLUX_NATIVE_TWIN_SIGNAL_H

#include <pthread.h>

#include "twin_state.h"

class Signaller {
 public:
  Signaller() = default;
  Signaller(const Signaller&) = delete;
  Signaller& operator=(const Signaller&) = delete;
  ~Signaller() { Join(); }

  // Does `events` rounds on this core, then sets control->done. Samples go to stage.samples, in ticks. 0 or
  // an errno value. The stage must live until Join.
  int Start(const TwinStage& stage, int core, uint32_t events);
  // Waits for the end. Returns how many rounds were dropped because this thread itself was not running: those
  // tell nothing about the loop.
  uint32_t Join();

 private:
  static void* Main(void* self);
  void Run();
  bool Round(uint32_t slot, uint64_t* ticks);

  TwinStage stage_ = {};
  pthread_t thread_ = {};
  bool running_ = false;
  uint32_t events_ = 0;
  uint32_t dropped_ = 0;
};

#endif
