// SPDX-License-Identifier: Apache-2.0
// What everything that deals with /dev/kflux has in common: errors that say what to do.
#ifndef HYPERFLUX_NATIVE_KFLUX_ERRORS_H
#define HYPERFLUX_NATIVE_KFLUX_ERRORS_H

#include <napi.h>

#include <string>

// As Fail(), with a next step that fits what kFlux means by this errno.
Napi::Value FailKflux(Napi::Env env, int err, const std::string& what);

#endif
