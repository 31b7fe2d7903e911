// SPDX-License-Identifier: Apache-2.0
// Objects that live in the process and are used by several JavaScript threads, each under a numeric id.
#ifndef HYPERFLUX_NATIVE_BIND_H
#define HYPERFLUX_NATIVE_BIND_H

#include <napi.h>
#include <stdint.h>

#include <map>
#include <memory>
#include <mutex>

// The living objects of one kind. Holds nobody alive.
template <typename T>
class Shelf {
 public:
  uint32_t Put(const std::shared_ptr<T>& object) {
    const std::lock_guard<std::mutex> lock(mutex_);
    // What has died since is swept here, where it costs nobody anything.
    for (auto at = objects_.begin(); at != objects_.end();)
      at = at->second.expired() ? objects_.erase(at) : std::next(at);
    objects_[++last_id_] = object;
    return last_id_;
  }
  std::shared_ptr<T> Get(uint32_t id) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = objects_.find(id);
    return found == objects_.end() ? nullptr : found->second.lock();
  }

 private:
  std::mutex mutex_;
  std::map<uint32_t, std::weak_ptr<T>> objects_;
  uint32_t last_id_ = 0;
};

// Sets target[name] to a function that belongs to `self` and keeps it alive. Self<T>(info) gets it back with
// two loads: looking up a wrapped `this` would cost as much again as the call.
template <typename T, Napi::Value (*Fn)(const Napi::CallbackInfo&)>
void Bind(Napi::Object target, const char* name, const std::shared_ptr<T>& self) {
  auto* hold = new std::shared_ptr<T>(self);
  Napi::Function function = Napi::Function::New<Fn>(target.Env(), name, hold);
  if (function.IsEmpty()) {
    delete hold;
    return;
  }
  function.AddFinalizer([](Napi::Env, std::shared_ptr<T>* held) { delete held; }, hold);
  target.Set(name, function);
}

template <typename T>
T& Self(const Napi::CallbackInfo& info) {
  return **static_cast<std::shared_ptr<T>*>(info.Data());
}

// target[name] = call, whose data is a std::shared_ptr<T>.
template <typename T>
void BindCall(Napi::Object target, const char* name, const std::shared_ptr<T>& self, napi_callback call) {
  const napi_env env = target.Env();
  auto* hold = new std::shared_ptr<T>(self);
  napi_value function;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, call, hold, &function) != napi_ok) {
    delete hold;
    return;
  }
  Napi::Function(env, function).AddFinalizer([](Napi::Env, std::shared_ptr<T>* held) { delete held; }, hold);
  target.Set(name, function);
}

// As Bind, for what the loop calls in each turn: at most one argument, undefined if there is none. An object
// Napi::CallbackInfo would make room for more of them, which costs a fifth of such a call.
template <typename T, napi_value (*Fn)(napi_env, T&, napi_value)>
void BindFast(Napi::Object target, const char* name, const std::shared_ptr<T>& self) {
  const napi_callback call = [](napi_env inner, napi_callback_info info) -> napi_value {
    size_t count = 1;
    napi_value argument = nullptr;
    void* data = nullptr;
    napi_get_cb_info(inner, info, &count, &argument, nullptr, &data);
    return Fn(inner, **static_cast<std::shared_ptr<T>*>(data), argument);
  };
  BindCall(target, name, self, call);
}

// And for those without argument and result.
template <typename T, void (*Fn)(T&)>
void BindBare(Napi::Object target, const char* name, const std::shared_ptr<T>& self) {
  const napi_callback call = [](napi_env inner, napi_callback_info info) -> napi_value {
    void* data = nullptr;
    napi_get_cb_info(inner, info, nullptr, nullptr, nullptr, &data);
    Fn(**static_cast<std::shared_ptr<T>*>(data));
    return nullptr;
  };
  BindCall(target, name, self, call);
}

// Sets target[name] to a plain function.
template <Napi::Value (*Fn)(const Napi::CallbackInfo&)>
void Export(Napi::Object target, const char* name) {
  target.Set(name, Napi::Function::New<Fn>(target.Env(), name));
}

#endif
