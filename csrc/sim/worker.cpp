#include "sim/worker.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <utility>

#include "sim/memory.h"
#include "sim/simd_ops.h"

namespace deltamoe::sim {

uint64_t executed_steps = 0, executed_flops = 0;

namespace {

constexpr unsigned char kPoison = 0xff;  // a NaN in every float type

uint32_t mask_of(uint32_t lanes) { return lanes == kSimdWidth ? ~0u : (1u << lanes) - 1; }

uint32_t lowest(uint32_t mask) { return static_cast<uint32_t>(std::countr_zero(mask)); }

// Whether one of a pair of floats is what variables hold before they are written: all ones, of a 16-bit float perhaps.
// No operation gives such a NaN.
bool is_poison(double pair) {
  const auto bits = std::bit_cast<uint64_t>(pair);
  return (bits >> 48 & 0xffffu) == 0xffffu || (bits >> 16 & 0xffffu) == 0xffffu;
}

// A step of splitmix64.
uint64_t mix(uint64_t state) {
  state += 0x9e3779b97f4a7c15u;
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
  state = (state ^ (state >> 27)) * 0x94d049bb133111ebu;
  return state ^ (state >> 31);
}

}  // namespace

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::out_of_bounds:
      return "out-of-bounds";
    case Kind::uninitialised_read:
      return "uninitialised-read";
    case Kind::threadgroup_race:
      return "threadgroup-race";
    case Kind::device_race:
      return "device-race";
    case Kind::divergent_barrier:
      return "divergent-barrier";
    case Kind::divergent_simd_op:
      return "divergent-simd-op";
    case Kind::shuffle_from_inactive_lane:
      return "shuffle-from-inactive-lane";
    case Kind::threadgroup_memory_limit:
      return "threadgroup-memory-limit";
    case Kind::write_to_constant:
      return "write-to-constant";
    case Kind::misaligned:
      return "misaligned";
    case Kind::division_by_zero:
      return "division-by-zero";
  }
  return "?";
}

// ---- threadgroup memory
// ----------------------------------------------------------------------------------------------

ThreadgroupMemory::ThreadgroupMemory() : arena_(new (std::align_val_t{64}) char[kArena]) {}

void ThreadgroupMemory::reset() {
  variables_.clear();
  top_ = used_ = 0;
}

char* ThreadgroupMemory::find_or_add(uint32_t id, size_t size, size_t align, const char* name) {
  for (const Variable& v : variables_) {
    if (v.id == id) {
      return base() + v.offset;
    }
  }
  align = std::max<size_t>(align, 16);
  const size_t offset = (top_ + kRedZone + align - 1) / align * align;
  if (offset + size + kRedZone > kArena) {
    return nullptr;
  }
  variables_.push_back({id, offset, size, name});
  top_ = offset + size;
  used_ += (size + 15) / 16 * 16;
  memset(base() + offset, kPoison, size);
  return base() + offset;
}

void ThreadgroupMemory::poison() { memset(base(), kPoison, top_); }

// ---- worker
// ----------------------------------------------------------------------------------------------------------

Worker::Worker()
    : lanes_(new Lane[kMaxThreads]), groups_(new SimdGroup[kMaxSimdGroups]), stacks_(kStack * kMaxThreads) {
  for (uint32_t i = 0; i < kMaxThreads; i++) {
    lanes_[i].stack = stacks_.data() + i * kStack;
    lanes_[i].group = &groups_[i / kSimdWidth];
    lanes_[i].index = i % kSimdWidth;
    stacks_.forbid(i * kStack, Pages::kPage);  // an overflow is a fault, not a write to the neighbour
  }
}

const Lane* Worker::lane_of_stack(const void* p) const {
  return stacks_.contains(p) ? &lanes_[stack_offset(p) / kStack] : nullptr;
}

bool Worker::may_read(const void* p, size_t size) const {
  const auto* begin = static_cast<const char*>(p);
  const auto within = [&](const auto& object) {
    const auto* bytes = reinterpret_cast<const char*>(&object);
    return begin >= bytes && begin + size <= bytes + sizeof object;
  };
  const auto within_constant = [&](const Constant& c) { return begin >= c.begin && begin + size <= c.begin + c.size; };
  return within(lane_->position) || within(launch_->buffers) || within(dynamic_) ||
         std::any_of(launch_->constants.begin(), launch_->constants.end(), within_constant);
}

void Worker::begin(const Launch& launch, Memory* memory) {
  launch_ = &launch;
  memory_ = memory;
  fault_.clear();
  cancelled_ = nullptr;
  busy_ = 0;
  scheduling_.store(true, std::memory_order_relaxed);
  reports_.clear();
  counters_ = {};
  threadgroup_memory_.reset();
  current_ = this;
  dynamic_ = {};
  for (uint32_t i = 0; i < kMaxBuffers; i++) {
    if (launch.threadgroup_bytes[i] != 0) {
      // Ids of dynamic memory are out of the compiler's way.
      const std::string name = "[[threadgroup(" + std::to_string(i) + ")]]";
      dynamic_[i] = threadgroup_memory_.find_or_add(~i, launch.threadgroup_bytes[i], 16, name.c_str());
    }
  }
}

void Worker::end() {
  counters_.threadgroup_memory = threadgroup_memory_.used();
  current_ = nullptr;
  launch_ = nullptr;
  memory_ = nullptr;
}

bool Worker::run(Dim threadgroup) {
  threadgroup_ = threadgroup;
  threadgroup_memory_.poison();
  start_lanes();
  if (memory_ != nullptr) {
    memory_->begin_threadgroup();
  }
  std::array<uint32_t, kMaxSimdGroups> order{};
  for (uint32_t i = 0; i < group_count_; i++) {
    order[i] = i;
  }
  if (launch_->seed != 0) {
    // Of the threadgroup, not of the worker: the order does not depend on which worker runs what.
    uint64_t state = launch_->seed;
    for (const uint32_t n : threadgroup) {
      state = mix(state + n);
    }
    for (uint32_t i = group_count_ - 1; i > 0; i--) {
      state = mix(state);
      std::swap(order[i], order[state % (i + 1)]);
    }
  }
  do {
    for (uint32_t i = 0; i < group_count_; i++) {
      if (!run_simdgroup(groups_[order[i]])) {
        return false;
      }
    }
  } while (release_barrier());
  return true;
}

void Worker::start_lanes() {
  const Launch& launch = *launch_;
  Dim size{};  // of this threadgroup: the last ones of a grid of threads may be smaller
  for (int k = 0; k < 3; k++) {
    size[k] = std::min(launch.threads_per_threadgroup[k],
                       launch.threads[k] - threadgroup_[k] * launch.threads_per_threadgroup[k]);
  }
  const auto count = [](const Dim& d) { return d[0] * d[1] * d[2]; };
  lane_count_ = count(size);
  group_count_ = (lane_count_ + kSimdWidth - 1) / kSimdWidth;
  const uint32_t dispatched = count(launch.threads_per_threadgroup);
  for (uint32_t s = 0; s < group_count_; s++) {
    SimdGroup& group = groups_[s];
    group.index = s;
    group.all = group.alive = group.runnable = mask_of(std::min(kSimdWidth, lane_count_ - s * kSimdWidth));
    group.waiting = 0;
    group.device_epoch = group.threadgroup_epoch = 0;
    group.steps.fill(0);
  }
  for (uint32_t i = 0; i < lane_count_; i++) {
    Lane& lane = lanes_[i];
    Position& p = lane.position;
    p.thread_in_threadgroup = {i % size[0], i / size[0] % size[1], i / (size[0] * size[1])};
    for (int k = 0; k < 3; k++) {
      p.thread_in_grid[k] = threadgroup_[k] * launch.threads_per_threadgroup[k] + p.thread_in_threadgroup[k];
    }
    p.threadgroup_in_grid = threadgroup_;
    p.threads_per_threadgroup = size;
    p.dispatch_threads_per_threadgroup = launch.threads_per_threadgroup;
    p.threadgroups_per_grid = launch.threadgroups;
    p.threads_per_grid = launch.threads;
    p.grid_origin = {0, 0, 0};
    p.thread_index_in_threadgroup = i;
    p.thread_index_in_simdgroup = i % kSimdWidth;
    p.simdgroup_index = i / kSimdWidth;
    p.simdgroups_per_threadgroup = group_count_;
    p.threads_per_simdgroup = kSimdWidth;
    p.thread_index_in_quadgroup = i % 4;
    p.quadgroup_index = i / 4;
    p.quadgroups_per_threadgroup = (lane_count_ + 3) / 4;
    p.dispatch_simdgroups_per_threadgroup = (dispatched + kSimdWidth - 1) / kSimdWidth;
    p.dispatch_quadgroups_per_threadgroup = (dispatched + 3) / 4;
    lane.wait = Lane::Wait::none;
    lane.site = kNoSite;
    // Staggered: the same variable of 32 lanes would else fall into one set of the cache.
    const size_t stagger = lane.index * 320;
    lane.stack_pointer = fiber_prepare(lane.stack + kStack - 64 - stagger, &Worker::lane_main);
  }
}

void Worker::lane_main() {
  Worker& worker = *current_;
  worker.scheduling_.store(false, std::memory_order_relaxed);
  Lane& lane = *worker.lane_;
  worker.launch_->entry(worker.launch_->buffers.data(), worker.dynamic_.data(), &lane.position);
  SimdGroup& group = *lane.group;
  lane.wait = Lane::Wait::done;
  group.alive &= ~(1u << lane.index);
  group.runnable &= ~(1u << lane.index);
  worker.leave();
  __builtin_unreachable();
}

void Worker::switch_to(Lane& next) {
  Lane& from = *lane_;
  if (memory_ != nullptr) {
    from.group->steps[from.index] += executed_steps - steps_mark_;
    steps_mark_ = executed_steps;
  }
  lane_ = &next;
  fiber_switch(&from.stack_pointer, next.stack_pointer);
  scheduling_.store(false, std::memory_order_relaxed);
}

void Worker::leave() {
  Lane& from = *lane_;
  const uint32_t runnable = from.group->runnable;
  if (runnable != 0) {
    const uint32_t above = runnable & ~mask_of(from.index + 1);
    switch_to(*(&from + (static_cast<int>(lowest(above != 0 ? above : runnable)) - static_cast<int>(from.index))));
    return;
  }
  if (memory_ != nullptr) {
    from.group->steps[from.index] += executed_steps - steps_mark_;
  }
  fiber_switch(&from.stack_pointer, scheduler_);
  scheduling_.store(false, std::memory_order_relaxed);
}

// Runs a simdgroup until all its lanes have returned or wait at a barrier.
bool Worker::run_simdgroup(SimdGroup& group) {
  while (group.alive != 0) {
    if (group.runnable != 0) {
      lane_ = &lanes_[group.index * kSimdWidth + lowest(group.runnable)];
      steps_mark_ = executed_steps;
      fiber_switch(&scheduler_, lane_->stack_pointer);
      scheduling_.store(true, std::memory_order_relaxed);
      if (cancelled_ != nullptr) {
        fault_ = cancelled_;
      }
      if (!fault_.empty()) {
        return false;
      }
      continue;
    }
    Lane* const lanes = &lanes_[group.index * kSimdWidth];
    uint32_t at_simd_op = 0;
    for (uint32_t i = 0; i < kSimdWidth; i++) {
      if ((group.alive >> i & 1) != 0 && lanes[i].wait == Lane::Wait::simd) {
        at_simd_op |= 1u << i;
      }
    }
    if (at_simd_op == 0) {
      settle_steps(group);
      return true;
    }
    // The lanes have parted. As in a loop that some have left, those at the first place in the source go on.
    Site first = kNoSite;
    for (uint32_t m = at_simd_op; m != 0; m &= m - 1) {
      first = std::min(first, lanes[lowest(m)].site);
    }
    uint32_t active = 0;
    for (uint32_t m = at_simd_op; m != 0; m &= m - 1) {
      if (lanes[lowest(m)].site == first) {
        active |= 1u << lowest(m);
        lanes[lowest(m)].wait = Lane::Wait::none;
      }
    }
    group.waiting = 0;
    lane_ = &lanes[lowest(active)];
    combine(group, active, lane_->combine, first);
    group.runnable = active;
  }
  settle_steps(group);
  return true;
}

void Worker::settle_steps(SimdGroup& group) {
  if (memory_ == nullptr) {
    return;
  }
  uint64_t most = 0, sum = 0;
  for (uint64_t& steps : group.steps) {
    most = std::max(most, steps);
    sum += steps;
    steps = 0;
  }
  counters_.lane_steps += most * kSimdWidth;
  counters_.idle_lane_steps += most * kSimdWidth - sum;
}

void Worker::combine(SimdGroup& group, uint32_t active, Combine op, Site site) {
  const Busy busy(*this);
  counters_.simd_ops += is_simd_op(op) ? 1 : 0;
  settle_steps(group);
  if (active != group.all && minds_inactive_lanes(op, active)) {
    const bool is_barrier = is_simd_barrier(op);
    report(is_barrier ? Kind::divergent_barrier : Kind::divergent_simd_op, site,
           (is_barrier ? "simdgroup_barrier with " : "SIMD-group operation with ") +
               std::to_string(std::popcount(active)) + " of " + std::to_string(std::popcount(group.all)) +
               " lanes active");
  }
  op(*this, group, active);
}

uint64_t Worker::rendezvous(Combine op, uint64_t value, uint64_t fill, uint32_t argument, uint32_t modulo, Site site) {
  Lane& lane = *lane_;
  SimdGroup& group = *lane.group;
  const uint32_t i = lane.index, bit = 1u << i;
  group.value[i] = value;
  group.fill[i] = fill;
  group.argument[i] = argument;
  group.modulo[i] = modulo;
  lane.site = site;
  if (group.waiting == 0) {
    group.site = site;
  }
  if (group.site == site) {
    group.waiting |= bit;
    if (group.waiting == group.alive) {
      if (memory_ != nullptr) {
        group.steps[i] += executed_steps - steps_mark_;
        steps_mark_ = executed_steps;
      }
      combine(group, group.waiting, op, site);
      group.runnable = group.waiting;
      group.waiting = 0;
      return group.value[i];
    }
  }
  lane.wait = Lane::Wait::simd;
  lane.combine = op;
  group.runnable &= ~bit;
  leave();
  lane.wait = Lane::Wait::none;
  return group.value[i];
}

double Worker::multiply_accumulate(double a, double b, double c, Site site) {
  if (memory_ != nullptr && (is_poison(a) || is_poison(b) || is_poison(c))) {
    report(Kind::uninitialised_read, site, "a matrix operand that nothing was written to");
  }
  SimdGroup& group = *lane_->group;
  const uint32_t at = matrix_index(lane_->index);
  memcpy(&group.a[at], &a, sizeof a);
  memcpy(&group.b[at], &b, sizeof b);
  memcpy(&group.c[at], &c, sizeof c);
  return std::bit_cast<double>(rendezvous(multiply_accumulate_op(), 0, 0, 0, 0, site));
}

void Worker::barrier(uint32_t flags, Site site) {
  Lane& lane = *lane_;
  lane.site = site;
  lane.flags = flags;
  lane.wait = Lane::Wait::barrier;
  lane.group->runnable &= ~(1u << lane.index);
  leave();
  lane.wait = Lane::Wait::none;
}

// All simdgroups have run as far as they can. Lets the lanes that wait at the barrier go on; false when none does.
bool Worker::release_barrier() {
  uint32_t waiting = 0;
  Lane* first = nullptr;
  bool one_site = true;
  for (uint32_t i = 0; i < lane_count_; i++) {
    if (lanes_[i].wait == Lane::Wait::barrier) {
      waiting++;
      first = first == nullptr ? &lanes_[i] : first;
      one_site = one_site && lanes_[i].site == first->site;
    }
  }
  if (first == nullptr) {
    return false;
  }
  lane_ = first;
  if (!one_site) {
    report(Kind::divergent_barrier, first->site, "threads of one threadgroup wait at different threadgroup_barriers");
  } else if (waiting != lane_count_) {
    report(Kind::divergent_barrier, first->site,
           "threadgroup_barrier reached by " + std::to_string(waiting) + " of " + std::to_string(lane_count_) +
               " threads; the others have returned");
  }
  counters_.barriers++;
  if (memory_ != nullptr) {
    memory_->pass_barrier(first->flags);
  }
  for (uint32_t i = 0; i < lane_count_; i++) {
    if (lanes_[i].wait == Lane::Wait::barrier) {
      lanes_[i].wait = Lane::Wait::none;
      lanes_[i].group->runnable |= 1u << lanes_[i].index;
    }
  }
  return true;
}

void* Worker::threadgroup_variable(uint32_t id, size_t size, size_t align, const char* name) {
  const Busy busy(*this);
  const size_t before = threadgroup_memory_.used();
  char* const address = threadgroup_memory_.find_or_add(id, size, align, name);
  if (address == nullptr) {
    abandon("threadgroup memory: " + std::string(name) + " of " + std::to_string(size) +
            " bytes is far beyond Metal's limit of " + std::to_string(kThreadgroupMemory) + " bytes");
  }
  const size_t used = threadgroup_memory_.used();
  if (used > kThreadgroupMemory && before != used) {
    report(Kind::threadgroup_memory_limit, kNoSite,
           "threadgroup memory of " + std::to_string(used) + " bytes, with " + name + ": the limit is " +
               std::to_string(kThreadgroupMemory));
  }
  return address;
}

void Worker::note_simd_barrier(SimdGroup& group, uint32_t flags) {
  group.device_epoch += (flags & 1) != 0 ? 1 : 0;
  group.threadgroup_epoch += (flags & 2) != 0 ? 1 : 0;
}

void Worker::report(Kind kind, Site site, std::string message) {
  const Busy busy(*this);
  auto same =
      std::find_if(reports_.begin(), reports_.end(), [&](const Report& r) { return r.kind == kind && r.site == site; });
  if (same != reports_.end()) {
    same->count++;
  } else {
    reports_.push_back({kind, site, std::move(message), threadgroup_, lane_->group->index, lane_->index});
  }
}

void Worker::abandon(std::string why) {
  busy_++;
  fault_ = std::move(why);
  void* nowhere = nullptr;
  fiber_switch(&nowhere, scheduler_);
  __builtin_unreachable();
}

void Worker::cancel(const char* why) {
  cancelled_ = why;
  heed_cancellation();
}

}  // namespace deltamoe::sim
