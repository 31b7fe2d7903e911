// SPDX-License-Identifier: Apache-2.0
#include "args.h"

#include <limits.h>
#include <math.h>

#include "abi.h"
#include "fail.h"

bool Args::Int(size_t i, const char* name, int64_t min, int64_t max, int64_t* out) const {
  const Napi::Value value = info_[i];
  if (!value.IsNumber()) {
    FailType(env_, std::string(name) + " must be an integer");
    return false;
  }
  const double number = value.As<Napi::Number>().DoubleValue();
  // Written so that NaN fails, too.
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) ||
      floor(number) != number) {
    FailRange(env_, std::string(name) + " must be an integer from " + std::to_string(min) + " to " +
                        std::to_string(max) + ", not " + value.ToString().Utf8Value());
    return false;
  }
  *out = static_cast<int64_t>(number);
  return true;
}

bool Args::Fd(size_t i, const char* name, int* out) const {
  int64_t fd;
  if (!Int(i, name, 0, INT_MAX, &fd)) return false;
  *out = static_cast<int>(fd);
  return true;
}

bool Args::Bool(size_t i, const char* name, bool* out) const {
  if (!info_[i].IsBoolean()) {
    FailType(env_, std::string(name) + " must be true or false");
    return false;
  }
  *out = info_[i].As<Napi::Boolean>().Value();
  return true;
}

bool Args::Text(size_t i, const char* name, size_t max, std::string* out, bool may_be_empty) const {
  if (!info_[i].IsString()) {
    FailType(env_, std::string(name) + " must be a string");
    return false;
  }
  std::string text = info_[i].As<Napi::String>().Utf8Value();
  if (text.size() > max || text.find('\0') != std::string::npos || (text.empty() && !may_be_empty)) {
    FailRange(env_, std::string(name) + " must be text of " + (may_be_empty ? "at most " : "1 to ") +
                        std::to_string(max) + " bytes without NUL");
    return false;
  }
  *out = std::move(text);
  return true;
}

bool Args::Function(size_t i, const char* name, Napi::Function* out) const {
  if (!info_[i].IsFunction()) {
    FailType(env_, std::string(name) + " must be a function");
    return false;
  }
  *out = info_[i].As<Napi::Function>();
  return true;
}

bool Args::Cores(size_t i, const char* name, cpu_set_t* out) const {
  CPU_ZERO(out);
  if (!info_[i].IsArray()) {
    FailType(env_, std::string(name) + " must be an array of core numbers");
    return false;
  }
  const Napi::Array cores = info_[i].As<Napi::Array>();
  for (uint32_t k = 0; k < cores.Length(); k++) {
    const Napi::Value value = cores.Get(k);
    const double core = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
    if (!(core >= 0 && core < FLUX_MAX_CORES) || floor(core) != core) {
      FailRange(env_, std::string(name) + " must hold core numbers from 0 to " +
                          std::to_string(FLUX_MAX_CORES - 1));
      return false;
    }
    CPU_SET(static_cast<int>(core), out);
  }
  if (CPU_COUNT(out) == 0) {
    FailRange(env_, std::string(name) + " must name at least one core");
    return false;
  }
  return true;
}

bool Args::Elements(size_t i, const char* name, napi_typedarray_type type, const char* type_name, void** data,
                    size_t* length) const {
  napi_typedarray_type actual;
  if (!info_[i].IsTypedArray() ||
      napi_get_typedarray_info(env_, info_[i], &actual, length, data, nullptr, nullptr) != napi_ok ||
      actual != type) {
    FailType(env_, std::string(name) + " must be " + type_name);
    return false;
  }
  return true;
}

bool Args::Bytes(size_t i, const char* name, const uint8_t** data, size_t* length) const {
  void* start = nullptr;
  if (!Elements(i, name, napi_uint8_array, "a Uint8Array", &start, length)) return false;
  *data = static_cast<const uint8_t*>(start);
  return true;
}

bool Args::Int32s(size_t i, const char* name, int32_t** data, size_t* length) const {
  void* start = nullptr;
  if (!Elements(i, name, napi_int32_array, "an Int32Array", &start, length)) return false;
  *data = static_cast<int32_t*>(start);
  return true;
}

bool Args::Float64s(size_t i, const char* name, double** data, size_t* length) const {
  void* start = nullptr;
  if (!Elements(i, name, napi_float64_array, "a Float64Array", &start, length)) return false;
  *data = static_cast<double*>(start);
  return true;
}

bool Args::Shared(size_t i, const char* name, std::shared_ptr<Region>* out) const {
  if (info_[i].IsArrayBuffer()) {
    void* data = nullptr;
    size_t bytes = 0;
    // A detached buffer has no data, so it is refused here.
    if (napi_get_arraybuffer_info(env_, info_[i], &data, &bytes) == napi_ok && data != nullptr) {
      *out = Region::At(data);
      if (*out != nullptr && (*out)->bytes == bytes) return true;
    }
  }
  FailType(env_,
           std::string(name) +
               " must be an ArrayBuffer from mapShared, reserveArena or wrapShared that was not unmapped");
  return false;
}

bool Args::Word(size_t buffer, size_t offset, std::shared_ptr<Region>* region, uint32_t** word) const {
  std::shared_ptr<Region> found;
  int64_t at;
  if (!Shared(buffer, "buffer", &found)) return false;
  if (!Int(offset, "byteOffset", 0, static_cast<int64_t>(found->bytes) - 4, &at)) return false;
  if (at % 4 != 0) {
    FailRange(env_, "byteOffset must be a multiple of 4");
    return false;
  }
  *word = reinterpret_cast<uint32_t*>(static_cast<uint8_t*>(found->base) + at);
  *region = std::move(found);
  return true;
}
