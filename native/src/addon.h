// SPDX-License-Identifier: Apache-2.0
// What each subject adds to the addon's exports.
#ifndef HYPERFLUX_NATIVE_ADDON_H
#define HYPERFLUX_NATIVE_ADDON_H

#include <napi.h>

void InitAbi(Napi::Object exports);
void InitArena(Napi::Object exports);
void InitBridge(Napi::Object exports);
void InitClock(Napi::Object exports);
void InitCounters(Napi::Object exports);
void InitFiles(Napi::Object exports);
void InitFutex(Napi::Object exports);
void InitKflux(Napi::Object exports);
void InitMapping(Napi::Object exports);
void InitNotify(Napi::Object exports);
void InitProbes(Napi::Object exports);
void InitReleaser(Napi::Object exports);
void InitSockets(Napi::Object exports);
void InitThreads(Napi::Object exports);
void InitTwin(Napi::Object exports);

#endif
