// SPDX-License-Identifier: Apache-2.0
// One VM's load: when requests are published and how their completions come back.
#include <sys/mman.h>

#include "releaser.h"
#include "tsc.h"

namespace {

// A turn stays short however much is due: the rest is published in the next one, and shows as lateness.
constexpr uint32_t kMaxPublish = 64;
constexpr uint32_t kMaxCollect = 256;

uint32_t Load(const uint32_t* word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
uint64_t Load(const uint64_t* word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
void Store(uint32_t* word, uint32_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }
void Store(uint64_t* word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }

// Sequence numbers wrap, so they are compared by signed difference.
bool Before(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }
bool Before(uint64_t a, uint64_t b) { return static_cast<int64_t>(a - b) < 0; }

uint64_t Clamp(uint64_t value, uint64_t low, uint64_t high) {
  return value < low ? low : value > high ? high : value;
}

}  // namespace

Lane::~Lane() {
  if (page != nullptr) munmap(page, FLUX_CONTROL_BYTES);
  if (load != nullptr) munmap(load, load_bytes);
}

flux_load_entry* Lane::Entry(uint32_t index) const {
  uint8_t* first = reinterpret_cast<uint8_t*>(load) + FLUX_LOAD_ENTRIES_OFFSET;
  return reinterpret_cast<flux_load_entry*>(first) + index;
}

uint32_t Lane::Turn() {
  uint32_t published = 0;
  if (!done) {
    // Acquire: pairs with the maker's release of ARMED after it laid the schedule down.
    const uint32_t state = __atomic_load_n(&load->state, __ATOMIC_ACQUIRE);
    if (state == FLUX_LOAD_ARMED && !running) Start(TscNow());
    if (running) {
      if (state != FLUX_LOAD_STOP) published = Publish();
      Collect();
    }
    if (state == FLUX_LOAD_STOP || (running && (finished == entries || !Before(TscNow(), end)))) Finish();
  }
  UpdateDepth();
  if (published > 0) Ring(published);
  return published;
}

void Lane::Start(uint64_t now) {
  start = Load(&load->start_tsc);
  if (start == 0) {
    start = now;
    Store(&load->start_tsc, start);
  }
  const uint64_t last = entries == 0 ? start : start + Load(&Entry(entries - 1)->due);
  const uint64_t grace = Load(&load->grace_tsc);
  // No more than half of the counter's range, where "before" and "after" still mean something.
  end = last + Clamp(grace, 0, UINT64_MAX / 4);
  running = true;
  // By compare-and-swap, so that a STOP that comes this very moment is not written over.
  uint32_t armed = FLUX_LOAD_ARMED;
  __atomic_compare_exchange_n(&load->state, &armed, FLUX_LOAD_RUNNING, false, __ATOMIC_ACQ_REL,
                              __ATOMIC_ACQUIRE);
}

uint32_t Lane::GuestHead() const {
  const size_t line = static_cast<size_t>(FLUX_LINE) * (slot % FLUX_SUMMARY_LINES);
  return Load(&reinterpret_cast<const flux_summary*>(page + line)->ring_head);
}

bool Lane::Full() const {
  // By the releaser's own count: neither a request nor a completion of the last FLUX_RING_ENTRIES is written
  // over before it was collected.
  if (released - finished >= FLUX_RING_ENTRIES) return true;
  // By the guest's word: what an earlier load gave up on may still lie in the ring. A guest that lies here
  // keeps its own requests waiting.
  const int32_t waiting = static_cast<int32_t>(base + released - GuestHead());
  return waiting >= FLUX_RING_ENTRIES;
}

uint32_t Lane::Publish() {
  flux_ring* ring = reinterpret_cast<flux_ring*>(page + FLUX_RING_OFFSET);
  flux_request* requests = reinterpret_cast<flux_request*>(page + FLUX_RING_ENTRIES_OFFSET);
  uint32_t published = 0;
  uint64_t now = TscNow();
  while (released < entries && published < kMaxPublish) {
    const flux_load_entry* entry = Entry(released);
    const uint64_t due = start + Load(&entry->due);
    if (Before(now, due)) break;
    if (Full()) break;
    const uint32_t seq = base + released;
    flux_request* request = &requests[seq % FLUX_RING_ENTRIES];
    Store(&request->seq, seq);
    Store(&request->service_ns, Load(&entry->service_ns));
    Store(&request->fanout, Load(&entry->fanout));
    Store(&request->due_lo, static_cast<uint32_t>(due));
    Store(&request->due_hi, static_cast<uint32_t>(due >> 32));
    // The moment of publishing: with due it is the releaser's own lateness.
    now = TscNow();
    Store(&Entry(released)->released, now);
    // Release: pairs with the guest's acquire of the tail before it reads the request.
    __atomic_store_n(&ring->tail, seq + 1, __ATOMIC_RELEASE);
    released++;
    published++;
  }
  if (published > 0) {
    Store(&load->released, released);
    // Release: pairs with the acquire of a vCPU thread in Fluxion that looks for work before it blocks.
    __atomic_store_n(&vm->ring_tail, base + released, __ATOMIC_RELEASE);
  }
  // What is due and was not released because the ring is full is an overrun, each request once.
  if (noticed < released) noticed = released;
  if (Full()) {
    for (uint32_t n = 0;
         n < kMaxPublish && noticed < entries && !Before(now, start + Load(&Entry(noticed)->due)); n++) {
      noticed++;
      overruns++;
    }
    Store(&load->overruns, overruns);
  }
  return published;
}

void Lane::Collect() {
  flux_completion* completions = reinterpret_cast<flux_completion*>(page + FLUX_COMPLETIONS_OFFSET);
  uint32_t collected = 0;
  while (finished < released && collected < kMaxCollect) {
    const uint32_t seq = base + finished;
    const flux_completion* completion = &completions[seq % FLUX_RING_ENTRIES];
    // Acquire: pairs with the guest's release, which comes after the other words.
    if (__atomic_load_n(&completion->seq_plus_1, __ATOMIC_ACQUIRE) != seq + 1) break;
    const uint64_t wait = Load(&completion->wait);
    const uint64_t done_tsc = Load(&completion->done_lo) | static_cast<uint64_t>(Load(&completion->done_hi))
                                                               << 32;
    flux_load_entry* entry = Entry(finished);
    const uint64_t due = start + Load(&entry->due);
    const uint64_t released_at = Load(&entry->released);
    // A guest can only say that it was done after the release and before now, and that it began in between.
    const uint64_t done_at = Clamp(done_tsc, released_at, TscNow());
    Store(&entry->wait, Clamp(wait, released_at - due, done_at - due));
    Store(&entry->done, done_at);
    finished++;
    collected++;
  }
  // Release: whoever sees the count sees the entries.
  if (collected > 0) __atomic_store_n(&load->finished, finished, __ATOMIC_RELEASE);
}

void Lane::Finish() {
  done = true;
  // Release: pairs with the maker's acquire of DONE before it reads the results.
  __atomic_store_n(&load->state, FLUX_LOAD_DONE, __ATOMIC_RELEASE);
}

void Lane::UpdateDepth() {
  if (!running) return;
  const uint32_t tail = base + released;
  // The guest's word, so it is believed only between what it has finished (or, before that, what fits into
  // the ring) and what it was given.
  const uint32_t low = finished > 0 ? base + finished : tail - FLUX_RING_ENTRIES;
  uint32_t head = GuestHead();
  if (Before(head, low) || Before(tail, head)) head = base + finished;
  // Of requests that an earlier load left behind, the due time is not known any more; the first of this one's
  // stands in.
  const uint32_t index = Before(head, base) ? 0 : head - base;
  if (tail - head == depth && (depth == 0 || index == oldest)) return;
  depth = tail - head;
  oldest = index;
  // The stamp first: the loop reads the depth and then, if there is any, the stamp.
  if (index < released) {
    Store(&vm->ring_oldest, static_cast<uint32_t>((start + Load(&Entry(index)->due)) >> stamp_shift));
  }
  __atomic_store_n(&vm->ring_depth, depth, __ATOMIC_RELEASE);
}

void Lane::Ring(uint32_t published) {
  // Sequentially consistent on both sides: the vCPU thread adds itself to `waiters` and then looks at the
  // ring and the doorbell, this thread bumps the doorbell and then looks at `waiters`. One of the two sees
  // the other.
  __atomic_fetch_add(&vm->doorbell, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&vm->waiters, __ATOMIC_SEQ_CST) != 0)
    FutexWake(&vm->doorbell, static_cast<int>(published));
}

uint64_t Lane::NextDue() const {
  if (done || !running) return UINT64_MAX;
  return released < entries ? start + Load(&Entry(released)->due) : end;
}
