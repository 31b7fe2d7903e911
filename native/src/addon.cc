// SPDX-License-Identifier: Apache-2.0
#include "addon.h"

namespace {

Napi::Object Init(Napi::Env, Napi::Object exports) {
  InitAbi(exports);
  InitArena(exports);
  InitBridge(exports);
  InitClock(exports);
  InitCounters(exports);
  InitFiles(exports);
  InitFutex(exports);
  InitKflux(exports);
  InitMapping(exports);
  InitNotify(exports);
  InitProbes(exports);
  InitReleaser(exports);
  InitSockets(exports);
  InitThreads(exports);
  InitTwin(exports);
  return exports;
}

}  // namespace

// NOLINTNEXTLINE(modernize-use-nullptr): the macro is node-addon-api's.
NODE_API_MODULE(hyperflux, Init)
