// SPDX-License-Identifier: Apache-2.0
// The releaser: open-loop arrivals. It alone reads a schedule (abi/load.h), and at each due time publishes
// the request into the VM's ring (abi/control_page.h), from the arbiter's loop or from a thread of its own.
// It plays the part of an I/O core, so it is careful with what it reads from a guest: values are copied once
// and clamped.
#ifndef HYPERFLUX_NATIVE_RELEASER_H
#define HYPERFLUX_NATIVE_RELEASER_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "abi.h"
#include "region.h"

// One VM and its load.
struct Lane {
  uint32_t slot = 0;
  uint8_t* page = nullptr;  // the whole control page
  flux_load* load = nullptr;
  size_t load_bytes = 0;
  flux_vm* vm = nullptr;  // its section in the hand-off table

  // Own copies: what others could change is read once.
  uint32_t entries = 0;
  uint32_t base = 0;  // ring sequence number of entry 0
  uint32_t released = 0;
  uint32_t finished = 0;
  uint32_t noticed = 0;  // entries before this one were released, or counted as overruns
  uint32_t overruns = 0;
  uint32_t stamp_shift = 0;
  uint64_t start = 0;
  uint64_t end = 0;  // when the grace is over
  uint32_t depth = 0;
  uint32_t oldest = 0;
  bool running = false;
  bool done = false;

  Lane() = default;
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;
  ~Lane();

  // Publishes what is due and collects what is finished. Returns how many requests it published.
  uint32_t Turn();
  // When there is something to do next, as far as the schedule tells; UINT64_MAX: never.
  uint64_t NextDue() const;

 private:
  void Start(uint64_t now);
  uint32_t Publish();
  void Collect();
  void Finish();
  void UpdateDepth();
  uint32_t GuestHead() const;
  bool Full() const;
  void Ring(uint32_t published);
  flux_load_entry* Entry(uint32_t index) const;
};

class Releaser {
 public:
  explicit Releaser(std::shared_ptr<Region> table) : table_(std::move(table)) {}
  ~Releaser() { StopThread(); }

  uint32_t id = 0;

  // Maps both files. 0, or an errno value with the reason in *why.
  int Add(uint32_t slot, int control_fd, int load_fd, std::string* why);
  // False if the slot has no load here.
  bool Remove(uint32_t slot);
  // One turn over all VMs. Returns the number of requests published; 0 without a look if somebody else is at
  // it.
  uint32_t Turn();

  struct ThreadOptions {
    int core = -1;  // -1: anywhere
    int fifo = 0;   // SCHED_FIFO priority, 0: ordinary
    bool hybrid = false;
  };
  // 0 or an errno value. *fifo tells whether the real-time priority was allowed.
  int RunThread(const ThreadOptions& options, bool* fifo);
  void StopThread();

 private:
  static void* ThreadMain(void* releaser);
  void Loop();
  uint32_t TurnLocked();

  std::shared_ptr<Region> table_;
  std::mutex mutex_;  // the list of lanes and the lanes themselves
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::atomic<int> waiting_{0};  // threads that want the mutex: a spinning loop makes room for them
  std::mutex thread_mutex_;      // starting and stopping
  pthread_t thread_{};
  bool threaded_ = false;
  bool hybrid_ = false;
  std::atomic<bool> stop_{false};
  uint32_t wake_ = 0;  // futex of a thread that has nothing to do
};

#endif
