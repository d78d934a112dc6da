// What all parts of the simulator share.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace deltamoe::sim {

constexpr uint32_t kSimdWidth = 32;
constexpr uint32_t kMaxThreads = 1024;  // of a threadgroup
constexpr uint32_t kMaxSimdGroups = kMaxThreads / kSimdWidth;
constexpr uint32_t kMaxBuffers = 31;
constexpr uint32_t kThreadgroupMemory = 32768;  // bytes a threadgroup may have on every Apple GPU
constexpr uint32_t kNoSite = ~0u;

// A place in the source: an index into the table that the compiler's Python side keeps.
using Site = uint32_t;
using Dim = std::array<uint32_t, 3>;

// What a kernel's entry reads its [[...]] position parameters from; POSITION_FIELDS in module.py names the words.
struct Position {
  Dim thread_in_grid, thread_in_threadgroup, threadgroup_in_grid;
  Dim threads_per_threadgroup, dispatch_threads_per_threadgroup;
  Dim threadgroups_per_grid, threads_per_grid, grid_origin;
  uint32_t thread_index_in_threadgroup, thread_index_in_simdgroup, simdgroup_index, simdgroups_per_threadgroup;
  uint32_t threads_per_simdgroup, thread_index_in_quadgroup, quadgroup_index, quadgroups_per_threadgroup;
  uint32_t dispatch_simdgroups_per_threadgroup, dispatch_quadgroups_per_threadgroup;
};
static_assert(sizeof(Position) == 34 * sizeof(uint32_t));

using Entry = void (*)(void* const* buffers, void* const* threadgroup, const Position* position);

enum class Kind {
  out_of_bounds,
  uninitialised_read,
  threadgroup_race,
  device_race,
  divergent_barrier,
  divergent_simd_op,
  shuffle_from_inactive_lane,
  threadgroup_memory_limit,
  write_to_constant,
  misaligned,
  division_by_zero,
};
const char* name_of(Kind kind);

// A finding. Further ones of the same kind at the same site are counted, not kept.
struct Report {
  Kind kind;
  Site site;
  std::string message;
  Dim threadgroup;
  uint32_t simdgroup, lane;
  uint64_t count = 1;
};

// Loads and stores of one buffer, in checked mode.
struct Traffic {
  uint64_t bytes_loaded = 0, bytes_stored = 0, lines_loaded = 0, lines_stored = 0;
};

struct Counters {
  uint64_t barriers = 0, simd_ops = 0, matrix_ops = 0, threadgroup_memory = 0;
  // Checked mode only.
  uint64_t device_bytes_loaded = 0, device_bytes_stored = 0, device_lines_loaded = 0, device_lines_stored = 0;
  uint64_t threadgroup_bytes_loaded = 0, threadgroup_bytes_stored = 0;
  uint64_t flops = 0, lane_steps = 0, idle_lane_steps = 0;
};

}  // namespace deltamoe::sim
