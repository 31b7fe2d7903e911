// SPDX-License-Identifier: Apache-2.0
// Where threads run and under which policy.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <set>

#include "abi.h"
#include "addon.h"
#include "args.h"
#include "bind.h"
#include "fail.h"

namespace {

Napi::Value GetTid(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(syscall(SYS_gettid)));
}

Napi::Value PinFailed(Napi::Env env, int err, const std::string& whom) {
  return Fail(env, err, "cannot set the affinity of " + whom,
              err == EINVAL ? "None of the cores is online and in this process's cpuset" : "");
}

Napi::Value SetAffinity(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  int64_t tid;
  cpu_set_t set;
  // Thread 0 is the calling one.
  if (!args.Int(0, "tid", 0, INT_MAX, &tid) || !args.Cores(1, "cores", &set)) return env.Undefined();
  if (sched_setaffinity(static_cast<pid_t>(tid), sizeof set, &set) != 0) {
    return PinFailed(env, errno, tid == 0 ? "this thread" : "thread " + std::to_string(tid));
  }
  return env.Undefined();
}

Napi::Value GetAffinity(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  int64_t tid;
  if (!Args(info).Int(0, "tid", 0, INT_MAX, &tid)) return env.Undefined();
  cpu_set_t set;
  if (sched_getaffinity(static_cast<pid_t>(tid), sizeof set, &set) != 0) {
    return Fail(env, errno, "cannot read the affinity of thread " + std::to_string(tid));
  }
  Napi::Array cores = Napi::Array::New(env);
  for (int core = 0; core < CPU_SETSIZE; core++)
    if (CPU_ISSET(core, &set)) cores.Set(cores.Length(), core);
  return cores;
}

Napi::Value PinProcess(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  cpu_set_t set;
  if (!Args(info).Cores(0, "cores", &set)) return env.Undefined();
  // A thread that is started meanwhile inherits the mask of one that was perhaps not done yet, so the list is
  // read again until it brings nothing new.
  std::set<pid_t> done;
  for (bool found = true; found;) {
    found = false;
    DIR* tasks = opendir("/proc/self/task");
    if (tasks == nullptr) return Fail(env, errno, "cannot list the threads of this process");
    while (const dirent* entry = readdir(tasks)) {
      const pid_t tid = static_cast<pid_t>(strtol(entry->d_name, nullptr, 10));
      if (tid <= 0 || !done.insert(tid).second) continue;
      found = true;
      if (sched_setaffinity(tid, sizeof set, &set) != 0 && errno != ESRCH) {
        const int err = errno;
        closedir(tasks);
        return PinFailed(env, err, "thread " + std::to_string(tid));
      }
    }
    closedir(tasks);
  }
  return env.Undefined();
}

Napi::Value SetScheduler(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  int64_t tid;
  std::string policy;
  int64_t priority;
  if (!args.Int(0, "tid", 0, INT_MAX, &tid) || !args.Text(1, "policy", 16, &policy) ||
      !args.Int(2, "priority", 0, 99, &priority)) {
    return env.Undefined();
  }
  const int chosen = policy == "other"   ? SCHED_OTHER
                     : policy == "batch" ? SCHED_BATCH
                     : policy == "idle"  ? SCHED_IDLE
                     : policy == "fifo"  ? SCHED_FIFO
                                         : -1;
  if (chosen < 0) {
    FailRange(env, "policy must be 'other', 'batch', 'idle' or 'fifo', not '" + policy + "'");
    return env.Undefined();
  }
  if ((chosen == SCHED_FIFO) != (priority > 0)) {
    FailRange(env, "priority must be 1 to 99 for 'fifo' and 0 for the others");
    return env.Undefined();
  }
  struct sched_param param = {};
  param.sched_priority = static_cast<int>(priority);
  if (sched_setscheduler(static_cast<pid_t>(tid), chosen, &param) != 0) {
    return Fail(env, errno, "cannot set the policy of thread " + std::to_string(tid) + " to " + policy,
                errno == EPERM ? "CAP_SYS_NICE or RLIMIT_RTPRIO is needed for it" : "");
  }
  return env.Undefined();
}

Napi::Value Kill(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  int64_t pid;
  int64_t tid;
  int64_t signal;
  // Never a process group and never init: those are no benchmark's business.
  if (!args.Int(0, "pid", 2, INT_MAX, &pid) || !args.Int(1, "tid", 0, INT_MAX, &tid) ||
      !args.Int(2, "signal", 0, _NSIG - 1, &signal)) {
    return env.Undefined();
  }
  const long failed = tid == 0 ? kill(static_cast<pid_t>(pid), static_cast<int>(signal))
                               : syscall(SYS_tgkill, pid, tid, signal);
  if (failed != 0) {
    return Fail(env, errno,
                "cannot send signal " + std::to_string(signal) + " to " +
                    (tid == 0 ? "process " + std::to_string(pid) : "thread " + std::to_string(tid)));
  }
  return env.Undefined();
}

Napi::Value HoldCpuDmaLatency(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  int64_t us;
  if (!Args(info).Int(0, "us", 0, 2000000000, &us)) return env.Undefined();
  const int fd = open("/dev/cpu_dma_latency", O_WRONLY | O_CLOEXEC);
  // Not there or not allowed: a fact about the host and not an error.
  if (fd < 0) return env.Null();
  const int32_t value = static_cast<int32_t>(us);
  if (write(fd, &value, sizeof value) != static_cast<ssize_t>(sizeof value)) {
    close(fd);
    return env.Null();
  }
  return Napi::Number::New(env, fd);
}

}  // namespace

void InitThreads(Napi::Object exports) {
  Export<GetTid>(exports, "gettid");
  Export<SetAffinity>(exports, "setAffinity");
  Export<GetAffinity>(exports, "getAffinity");
  Export<PinProcess>(exports, "pinProcess");
  Export<SetScheduler>(exports, "setScheduler");
  Export<Kill>(exports, "kill");
  Export<HoldCpuDmaLatency>(exports, "holdCpuDmaLatency");
}
