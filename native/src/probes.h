// SPDX-License-Identifier: Apache-2.0
#ifndef HYPERFLUX_NATIVE_PROBES_H
#define HYPERFLUX_NATIVE_PROBES_H

#include <napi.h>

Napi::Value WaitWordChange(const Napi::CallbackInfo& info);
Napi::Value FutexWakeFloor(const Napi::CallbackInfo& info);
Napi::Value PreemptionFloor(const Napi::CallbackInfo& info);
Napi::Value MembarrierFloor(const Napi::CallbackInfo& info);

#endif
