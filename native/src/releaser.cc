// SPDX-License-Identifier: Apache-2.0
#include "releaser.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "mapping.h"
#include "tsc.h"

namespace {

// A hybrid thread is awake this long before a request is due: longer than a timer's wake-up takes, and no
// longer, because while it spins it has the core to itself and whoever is to serve the last request may be
// waiting for it.
constexpr uint64_t kSpinUs = 50;
// It sleeps no longer than this, because somebody may want the load stopped or completions collected.
constexpr uint64_t kMaxSleepUs = 1000;

void* MapFile(int fd, size_t bytes, std::string* why, int* err) {
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (base != MAP_FAILED) return base;
  *err = errno;
  *why = "cannot map file descriptor " + std::to_string(fd) + "; is there enough memory?";
  return nullptr;
}

}  // namespace

int Releaser::Add(uint32_t slot, int control_fd, int load_fd, std::string* why) {
  auto lane = std::make_unique<Lane>();
  lane->slot = slot;
  int err = CheckMappable(control_fd, 0, FLUX_CONTROL_BYTES, true, why);
  if (err == 0) err = CheckMappable(load_fd, 0, FLUX_LOAD_ENTRIES_OFFSET, true, why);
  if (err != 0) return err;
  // Sealed, so its length stays what it is now.
  struct stat st;
  if (fstat(load_fd, &st) != 0) {
    *why = "cannot look at the load area";
    return EBADF;
  }
  lane->load_bytes = static_cast<size_t>(st.st_size);
  lane->page = static_cast<uint8_t*>(MapFile(control_fd, FLUX_CONTROL_BYTES, why, &err));
  if (lane->page == nullptr) return err;
  lane->load = static_cast<flux_load*>(MapFile(load_fd, lane->load_bytes, why, &err));
  if (lane->load == nullptr) return err;

  if (lane->load->magic != FLUX_LOAD_MAGIC) {
    *why = "this file is not a load area (its magic number is wrong)";
    return EINVAL;
  }
  const uint32_t major = lane->load->abi_major;
  if (major != FLUX_ABI_MAJOR) {
    *why = "the load area has ABI major " + std::to_string(major) + ", this addon " +
           std::to_string(FLUX_ABI_MAJOR);
    return EPROTO;
  }
  lane->entries = __atomic_load_n(&lane->load->entries, __ATOMIC_RELAXED);
  if (lane->entries > (lane->load_bytes - FLUX_LOAD_ENTRIES_OFFSET) / sizeof(flux_load_entry)) {
    *why = "the load area says that it has " + std::to_string(lane->entries) +
           " entries, but its file is too short for them";
    return EINVAL;
  }
  uint8_t* table = static_cast<uint8_t*>(table_->base);
  lane->vm = reinterpret_cast<flux_vm*>(table + FLUX_VMS_OFFSET + static_cast<size_t>(slot) * FLUX_VM_BYTES);
  lane->stamp_shift = reinterpret_cast<flux_table*>(table)->stamp_shift % 64;
  // Sequence numbers go on where the last load left off, by the table's word and not the guest's page.
  lane->base = __atomic_load_n(&lane->vm->ring_tail, __ATOMIC_RELAXED);
  // A fresh page is all zeroes, which would pass for the completion of the request that ends at a wrap.
  auto* completions = reinterpret_cast<flux_completion*>(lane->page + FLUX_COMPLETIONS_OFFSET);
  for (uint32_t i = 0; i < FLUX_RING_ENTRIES; i++) {
    const uint32_t seq = lane->base + i;
    __atomic_store_n(&completions[seq % FLUX_RING_ENTRIES].seq_plus_1, seq, __ATOMIC_RELAXED);
  }

  waiting_.fetch_add(1, std::memory_order_relaxed);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& other : lanes_) {
      if (other->slot == slot) {
        err = EBUSY;
        *why = "slot " + std::to_string(slot) + " has a load already; remove it first";
      }
    }
    if (err == 0) lanes_.push_back(std::move(lane));
  }
  waiting_.fetch_sub(1, std::memory_order_relaxed);
  if (err == 0) {
    // Pairs with the thread's read before it sleeps.
    __atomic_fetch_add(&wake_, 1, __ATOMIC_SEQ_CST);
    FutexWake(&wake_, 1);
  }
  return err;
}

bool Releaser::Remove(uint32_t slot) {
  std::unique_ptr<Lane> gone;
  waiting_.fetch_add(1, std::memory_order_relaxed);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto at = lanes_.begin(); at != lanes_.end(); ++at) {
      if ((*at)->slot != slot) continue;
      gone = std::move(*at);
      lanes_.erase(at);
      break;
    }
  }
  waiting_.fetch_sub(1, std::memory_order_relaxed);
  // Nobody keeps the figure up to date any more, and the policy must not chase a stale one.
  if (gone != nullptr) __atomic_store_n(&gone->vm->ring_depth, 0, __ATOMIC_RELEASE);
  return gone != nullptr;  // unmapped here, outside the lock: the loop does not wait for it
}

uint32_t Releaser::Turn() {
  // The loop never waits: if a load is just being added, the next turn will do.
  if (!mutex_.try_lock()) return 0;
  const uint32_t published = TurnLocked();
  mutex_.unlock();
  return published;
}

uint32_t Releaser::TurnLocked() {
  uint32_t published = 0;
  for (const auto& lane : lanes_)
    published += lane->Turn();
  return published;
}

int Releaser::RunThread(const ThreadOptions& options, bool* fifo) {
  const std::lock_guard<std::mutex> lock(thread_mutex_);
  *fifo = false;
  if (threaded_) return EBUSY;
  stop_.store(false, std::memory_order_relaxed);
  hybrid_ = options.hybrid;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  if (options.core >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(options.core, &set);
    pthread_attr_setaffinity_np(&attributes, sizeof set, &set);
  }
  const int err = pthread_create(&thread_, &attributes, ThreadMain, this);
  pthread_attr_destroy(&attributes);
  if (err != 0) return err;
  threaded_ = true;
  if (options.fifo > 0) {
    struct sched_param param = {};
    param.sched_priority = options.fifo;
    *fifo = pthread_setschedparam(thread_, SCHED_FIFO, &param) == 0;
  }
  return 0;
}

void Releaser::StopThread() {
  const std::lock_guard<std::mutex> lock(thread_mutex_);
  if (!threaded_) return;
  stop_.store(true, std::memory_order_release);
  __atomic_fetch_add(&wake_, 1, __ATOMIC_SEQ_CST);
  FutexWake(&wake_, 1);
  pthread_join(thread_, nullptr);
  threaded_ = false;
}

void* Releaser::ThreadMain(void* releaser) {
  // The default of 50 us would be most of the lateness of a hybrid thread.
  prctl(PR_SET_TIMERSLACK, 1);
  static_cast<Releaser*>(releaser)->Loop();
  return nullptr;
}

void Releaser::Loop() {
  const uint64_t per_us = TscKhz() / 1000 + 1;
  while (!stop_.load(std::memory_order_acquire)) {
    const uint32_t seen = __atomic_load_n(&wake_, __ATOMIC_SEQ_CST);
    bool active = false;
    uint64_t next = UINT64_MAX;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      TurnLocked();
      for (const auto& lane : lanes_) {
        active = active || !lane->done;
        const uint64_t due = lane->NextDue();
        if (due < next) next = due;
      }
    }
    // A mutex is not fair: whoever wants in would never get in between two turns of a spinning loop.
    while (waiting_.load(std::memory_order_relaxed) != 0)
      sched_yield();
    if (!active) {
      // With nothing to wait for, a depth may still go down: it is looked at a hundred times a second.
      const struct timespec pause = {0, 10000000L};
      FutexWait(&wake_, seen, &pause);
      continue;
    }
    const uint64_t now = TscNow();
    const uint64_t away = next > now ? (next - now) / per_us : 0;
    if (!hybrid_ || away <= kSpinUs) {
      __builtin_ia32_pause();
      continue;
    }
    const uint64_t us = away - kSpinUs < kMaxSleepUs ? away - kSpinUs : kMaxSleepUs;
    const struct timespec pause = {0, static_cast<long>(us * 1000)};
    FutexWait(&wake_, seen, &pause);
  }
}
