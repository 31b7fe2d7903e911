// SPDX-License-Identifier: Apache-2.0
// What the C++ compiler makes of the contract, for comparison with what the generator made of it.
#include <stddef.h>

#include "abi.h"
#include "addon.h"
#include "bind.h"

namespace {

struct Fact {
  const char* name;
  double value;
};

// The names come from the TypeScript layout (build.mjs writes this file), the values from the compiler.
const Fact kFacts[] = {
#include "abi_facts.inc"
};

Napi::Value AbiInfo(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object layout = Napi::Object::New(env);
  for (const Fact& fact : kFacts)
    layout.Set(fact.name, fact.value);
  Napi::Object result = Napi::Object::New(env);
  result.Set("major", FLUX_ABI_MAJOR);
  result.Set("minor", FLUX_ABI_MINOR);
  result.Set("layout", layout);
  return result;
}

}  // namespace

void InitAbi(Napi::Object exports) { Export<AbiInfo>(exports, "abiInfo"); }
