// SPDX-License-Identifier: Apache-2.0
// Checked arguments. Each function returns false with a JavaScript error pending if the argument is not what
// it should be, so that a binding reads: if (!args.Fd(0, "fd", &fd)) return env.Undefined().
#ifndef HYPERFLUX_NATIVE_ARGS_H
#define HYPERFLUX_NATIVE_ARGS_H

#include <napi.h>
#include <sched.h>
#include <stdint.h>

#include <memory>
#include <string>

#include "region.h"

class Args {
 public:
  explicit Args(const Napi::CallbackInfo& info) : info_(info), env_(info.Env()) {}

  // An integer in [min, max]; both must be safe integers of JavaScript.
  bool Int(size_t i, const char* name, int64_t min, int64_t max, int64_t* out) const;
  bool Fd(size_t i, const char* name, int* out) const;
  bool Bool(size_t i, const char* name, bool* out) const;
  // Text without NUL and of at most `max` bytes; empty only if `may_be_empty`.
  bool Text(size_t i, const char* name, size_t max, std::string* out, bool may_be_empty = false) const;
  bool Function(size_t i, const char* name, Napi::Function* out) const;
  // Core numbers, at least one.
  bool Cores(size_t i, const char* name, cpu_set_t* out) const;

  // The elements of a typed array. The pointer is good until the binding returns to JavaScript.
  bool Bytes(size_t i, const char* name, const uint8_t** data, size_t* length) const;
  bool Int32s(size_t i, const char* name, int32_t** data, size_t* length) const;
  bool Float64s(size_t i, const char* name, double** data, size_t* length) const;

  // The region behind an ArrayBuffer that this addon made: what may be kept and used after the call.
  bool Shared(size_t i, const char* name, std::shared_ptr<Region>* out) const;
  // The same, and an aligned word in it.
  bool Word(size_t buffer, size_t offset, std::shared_ptr<Region>* region, uint32_t** word) const;

 private:
  bool Elements(size_t i, const char* name, napi_typedarray_type type, const char* type_name, void** data,
                size_t* length) const;

  const Napi::CallbackInfo& info_;
  Napi::Env env_;
};

#endif
