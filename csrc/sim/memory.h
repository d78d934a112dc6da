// The checked mode's view of memory: what each access of a kernel may touch, whether it reads what was written, and
// whether the other access to the same place is ordered before it.
//
// Ordering. A threadgroup_barrier with a memory's flag starts a new epoch for that memory: all before it is ordered
// before all after. A simdgroup_barrier does so between the lanes of one simdgroup. Nothing orders two threadgroups of
// one dispatch, nor two lanes between barriers: SIMD-group operations order no memory, and lanes do not run in lock
// step. Two accesses of different lanes to one place that are not ordered race if one of them writes, unless both are
// atomic.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sim/pages.h"
#include "sim/types.h"
#include "sim/worker.h"

namespace deltamoe::sim {

// Memory of the device that a kernel may touch.
struct Region {
  std::string name;
  char* begin = nullptr;
  size_t size = 0;
  bool read_only = false;
  uint32_t granule = 1;     // bytes that are written as one: the size of an element, at most 4
  char* written = nullptr;  // whether each byte is; null: all are
};

class Memory {
 public:
  Memory(Worker& worker, const std::vector<Region>& regions);
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void begin_threadgroup();
  void pass_barrier(uint32_t flags);

  enum class Access { load, store, atomic_load, atomic_store, atomic_update };
  // Checks one access of the running lane. Returns where it is to be made: at p, or at a harmless place.
  void* check(void* p, size_t size, Access access, Site site);
  // Copies, as memmove. Bytes of a private variable that hold nothing, such as padding, may be copied to another one.
  void copy(char* to, char* from, size_t size, Site site);
  void check_alignment(const void* p, uint32_t align, Site site);
  // A private variable comes to life, holding nothing.
  void declare_private(char* p, size_t size);
  // The same for one that comes with contents: a struct passed by value.
  void declare_argument(char* p, size_t size);

  void add_counters(Counters& counters) const;
  std::vector<Traffic> traffic() const;  // by region

 private:
  // Who touched a place last. Epochs count on through all threadgroups, so those below `first_epoch_` are of another
  // one.
  struct Cell {
    uint32_t write_epoch = 0, read_epoch = 0;
    uint32_t write_by = 0;                  // who, packed
    uint32_t read_by = 0, read_by_too = 0;  // the last two readers of the epoch
    uint32_t read_groups = 0;               // simdgroups that have read in the epoch, as a mask
    bool read_elsewhere = false;            // by another threadgroup
  };
  struct DeviceRegion {
    Region region;
    Pages cells;  // one Cell by granule; empty if read-only
    std::vector<bool> lines_loaded, lines_stored;
    uint64_t bytes_loaded = 0, bytes_stored = 0;
  };
  // The running lane, as a Cell stores it.
  struct Who {
    uint32_t packed;
    uint32_t thread() const { return packed & 1023u; }
    uint32_t simdgroup() const { return thread() / kSimdWidth; }
    uint32_t simd_epoch() const { return packed >> 10 & 0xfffffu; }
    bool atomic() const { return packed >> 30 != 0; }
  };

  bool is_within_private(const Lane& owner, const char* p, size_t size, bool store, Site site);
  void check_private(const Lane& owner, char* p, size_t size, bool store, Site site, bool& allowed);
  char* private_state(const char* p) const { return private_.data() + worker_.stack_offset(p); }
  void check_threadgroup(char* p, size_t size, Access access, Site site, bool& allowed);
  void check_device(DeviceRegion& device, char* p, size_t size, Access access, Site site, bool& allowed);
  template <class Where>
  void note(Cell& cell, Access access, Who me, uint32_t epoch, Kind race, Where&& where, Site site);
  bool unordered(Who other, uint32_t epoch_then, Who me, uint32_t epoch) const;
  void report_outside(const char* p, size_t size, bool store, Site site);
  DeviceRegion* find(const char* p, size_t size);
  void* nowhere(size_t size);

  Worker& worker_;
  std::vector<DeviceRegion> device_;
  DeviceRegion* recent_ = nullptr;
  Pages arena_;    // one Cell by byte of threadgroup memory
  Pages private_;  // the state of each byte of the lanes' stacks
  uint32_t device_epoch_ = 1, threadgroup_epoch_ = 1, first_device_epoch_ = 1, first_threadgroup_epoch_ = 1;
  uint64_t threadgroup_loaded_ = 0, threadgroup_stored_ = 0;
  std::vector<char> nowhere_;
};

}  // namespace deltamoe::sim
