// SPDX-License-Identifier: Apache-2.0
// How the addon fails: a pending JavaScript Error with a `code`, never a C++ exception and never a crash.
#ifndef HYPERFLUX_NATIVE_FAIL_H
#define HYPERFLUX_NATIVE_FAIL_H

#include <napi.h>

#include <string>

// The name of an errno value as Node spells codes ("ENOENT"); "E<number>" for one without a name here.
std::string ErrnoName(int err);

// Leaves an Error pending with code = ErrnoName(err) and the message "<what>: <strerror>. <hint>".
// Returns undefined, so that a binding can `return Fail(...)`.
Napi::Value Fail(Napi::Env env, int err, const std::string& what, const std::string& hint = "");

// The same with a message that says it all already.
Napi::Value FailWith(Napi::Env env, int err, const std::string& message);

// The argument itself is wrong: TypeError with code ERR_INVALID_ARG_TYPE, or RangeError with
// ERR_OUT_OF_RANGE.
void FailType(Napi::Env env, const std::string& message);
void FailRange(Napi::Env env, const std::string& message);

#endif
