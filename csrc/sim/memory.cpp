#include "sim/memory.h"

#include <algorithm>
#include <cstring>

#include "sim/symbols.h"

namespace deltamoe::sim {
namespace {

enum PrivateState : char { kNoVariable, kUninitialised, kInitialised };

constexpr size_t kLine = 128;          // bytes of a cache line of Apple's GPUs
constexpr size_t kRedZone = 32;        // that the compiler leaves after each private variable
constexpr size_t kNowhere = 64 << 10;  // the longest access that can be led astray

bool stores(Memory::Access access) { return access != Memory::Access::load && access != Memory::Access::atomic_load; }

std::string bytes(size_t n) { return std::to_string(n) + (n == 1 ? " byte" : " bytes"); }

std::string thread(uint32_t index) {
  return "thread " + std::to_string(index) + " (simdgroup " + std::to_string(index / kSimdWidth) + ")";
}

}  // namespace

Memory::Memory(Worker& worker, const std::vector<Region>& regions)
    : worker_(worker),
      arena_(ThreadgroupMemory::kArena * sizeof(Cell)),
      private_(Worker::kStack * kMaxThreads),
      nowhere_(kNowhere) {
  for (const Region& region : regions) {
    DeviceRegion device;
    device.region = region;
    if (!region.read_only) {
      device.cells = Pages((region.size / region.granule + 1) * sizeof(Cell));
    }
    device.lines_loaded.resize(region.size / kLine + 1);
    device.lines_stored.resize(region.size / kLine + 1);
    device_.push_back(std::move(device));
  }
}

void Memory::begin_threadgroup() {
  first_device_epoch_ = ++device_epoch_;
  first_threadgroup_epoch_ = ++threadgroup_epoch_;
}

void Memory::pass_barrier(uint32_t flags) {
  device_epoch_ += (flags & 1) != 0 ? 1 : 0;
  threadgroup_epoch_ += (flags & 2) != 0 ? 1 : 0;
}

void* Memory::nowhere(size_t size) {
  if (size > kNowhere) {
    worker_.abandon("an access of " + bytes(size) + " out of bounds");
  }
  memset(nowhere_.data(), 0xff, size);
  return nowhere_.data();
}

void* Memory::check(void* pointer, size_t size, Access access, Site site) {
  const Worker::Busy busy(worker_);
  char* const p = static_cast<char*>(pointer);
  const bool store = stores(access);
  bool allowed = true;
  if (size == 0) {
    return p;
  }
  if (const Lane* owner = worker_.lane_of_stack(p)) {
    check_private(*owner, p, size, store, site, allowed);
  } else if (worker_.threadgroup_memory().contains(p)) {
    check_threadgroup(p, size, access, site, allowed);
  } else if (DeviceRegion* device = find(p, size)) {
    check_device(*device, p, size, access, site, allowed);
  } else if (store || !worker_.may_read(p, size)) {
    report_outside(p, size, store, site);
    allowed = false;
  }
  return allowed ? p : nowhere(size);
}

void Memory::check_alignment(const void* p, uint32_t align, Site site) {
  if (align > 1 && reinterpret_cast<uintptr_t>(p) % align != 0) {
    worker_.report(Kind::misaligned, site, "access to an address that is not a multiple of " + std::to_string(align));
  }
}

// ---- private memory
// --------------------------------------------------------------------------------------------------

void Memory::declare_private(char* p, size_t size) {
  memset(p, 0xff, size);
  memset(private_state(p), kUninitialised, size);
  memset(private_state(p) + size, kNoVariable, kRedZone);
}

void Memory::declare_argument(char* p, size_t size) { memset(private_state(p), kInitialised, size); }

// Whether the access stays within variables of the running lane; reports it if not.
bool Memory::is_within_private(const Lane& owner, const char* p, size_t size, bool store, Site site) {
  if (&owner != &worker_.lane()) {
    worker_.report(Kind::out_of_bounds, site, "access to private memory of another thread");
    return false;
  }
  const char* const state = private_state(p);
  if (std::find(state, state + size, kNoVariable) != state + size) {
    worker_.report(
        Kind::out_of_bounds, site,
        std::string(store ? "write" : "read") + " of " + bytes(size) + " in private memory, beyond its variable");
    return false;
  }
  return true;
}

void Memory::check_private(const Lane& owner, char* p, size_t size, bool store, Site site, bool& allowed) {
  allowed = is_within_private(owner, p, size, store, site);
  if (!allowed) {
    return;
  }
  char* const state = private_state(p);
  if (store) {
    memset(state, kInitialised, size);
  } else if (std::find(state, state + size, kUninitialised) != state + size) {
    worker_.report(Kind::uninitialised_read, site, "read of an uninitialised private variable");
  }
}

void Memory::copy(char* to, char* from, size_t size, Site site) {
  const Worker::Busy busy(worker_);
  const Lane* const owner = worker_.lane_of_stack(from);
  std::vector<char> state;
  if (owner != nullptr) {
    if (!is_within_private(*owner, from, size, false, site)) {
      return;
    }
    state.assign(private_state(from), private_state(from) + size);
    if (size != 0 && std::find(state.begin(), state.end(), kInitialised) == state.end()) {
      worker_.report(Kind::uninitialised_read, site, "copy of an uninitialised private variable");
    }
  } else {
    from = static_cast<char*>(check(from, size, Access::load, site));
  }
  char* const place = static_cast<char*>(check(to, size, Access::store, site));
  memmove(place, from, size);
  if (!state.empty() && place == to && worker_.lane_of_stack(to) != nullptr) {
    memcpy(private_state(to), state.data(), size);
  }
}

// ---- races
// -------------------------------------------------------------------------------------------------------------

// Whether nothing orders what `other` did in `epoch_then` of this threadgroup before what `me` does now.
bool Memory::unordered(Who other, uint32_t epoch_then, Who me, uint32_t epoch) const {
  if (epoch_then < epoch || other.thread() == me.thread()) {
    return false;
  }
  return other.simdgroup() != me.simdgroup() || other.simd_epoch() >= me.simd_epoch();
}

// Compares an access with those before it and takes note of it. Accesses by another threadgroup, which only device
// memory can have seen, are never ordered.
template <class Where>
void Memory::note(Cell& cell, Access access, Who me, uint32_t epoch, Kind race, Where&& where, Site site) {
  const bool device = race == Kind::device_race;
  const uint32_t first = device ? first_device_epoch_ : first_threadgroup_epoch_;
  const bool store = stores(access);
  const bool atomic = access != Access::load && access != Access::store;
  const Who writer{cell.write_by};

  if (cell.write_epoch != 0 && !(atomic && writer.atomic())) {
    const std::string what = store ? "write of " : "read of ";
    if (cell.write_epoch < first) {
      if (device) {
        worker_.report(race, site, what + where() + ", which another threadgroup has written");
      }
    } else if (unordered(writer, cell.write_epoch, me, epoch)) {
      worker_.report(race, site,
                     what + where() + ", which " + thread(writer.thread()) + " has written with no barrier between");
    }
  }
  if (store && cell.read_epoch != 0) {
    if (device && (cell.read_elsewhere || cell.read_epoch < first)) {
      worker_.report(race, site, "write of " + where() + ", which another threadgroup has read");
    } else if (cell.read_epoch == epoch) {
      const uint32_t others = cell.read_groups & ~(1u << me.simdgroup());
      for (const uint32_t reader : {cell.read_by, cell.read_by_too}) {
        if (unordered(Who{reader}, cell.read_epoch, me, epoch)) {
          worker_.report(
              race, site,
              "write of " + where() + ", which " + thread(Who{reader}.thread()) + " has read with no barrier between");
          break;
        }
      }
      if (others != 0 && Who{cell.read_by}.simdgroup() == me.simdgroup() &&
          Who{cell.read_by_too}.simdgroup() == me.simdgroup()) {
        worker_.report(race, site,
                       "write of " + where() + ", which another simdgroup has read with no barrier between");
      }
    }
  }
  if (store) {
    cell.write_epoch = epoch;
    cell.write_by = me.packed | (atomic ? 1u << 30 : 0);
  } else if (!atomic) {
    cell.read_elsewhere = cell.read_elsewhere || (cell.read_epoch != 0 && cell.read_epoch < first);
    if (cell.read_epoch != epoch) {
      cell.read_epoch = epoch;
      cell.read_groups = 0;
      cell.read_by = cell.read_by_too = me.packed;
    }
    cell.read_groups |= 1u << me.simdgroup();
    cell.read_by_too = Who{cell.read_by}.thread() == me.thread() ? cell.read_by_too : cell.read_by;
    cell.read_by = me.packed;
  }
}

// ---- threadgroup memory
// --------------------------------------------------------------------------------------------------

void Memory::check_threadgroup(char* p, size_t size, Access access, Site site, bool& allowed) {
  const ThreadgroupMemory& memory = worker_.threadgroup_memory();
  const auto offset = static_cast<size_t>(p - memory.base());
  const bool store = stores(access);
  const ThreadgroupMemory::Variable* within = nullptr;
  const ThreadgroupMemory::Variable* near = nullptr;
  for (const auto& v : memory.variables()) {
    if (offset >= v.offset && offset + size <= v.offset + v.size) {
      within = &v;
      break;
    }
    if (v.offset <= offset + ThreadgroupMemory::kRedZone) {
      near = &v;
    }
  }
  if (within == nullptr) {
    std::string message = std::string(store ? "write" : "read") + " of " + bytes(size) + " in threadgroup memory";
    if (near != nullptr) {
      message += " at byte " + std::to_string(static_cast<long>(offset) - static_cast<long>(near->offset)) + " of " +
                 near->name + ", which has " + bytes(near->size);
    }
    worker_.report(Kind::out_of_bounds, site, std::move(message));
    allowed = false;
    return;
  }
  (store ? threadgroup_stored_ : threadgroup_loaded_) += size;
  const Lane& lane = worker_.lane();
  const Who me{lane.position.thread_index_in_threadgroup | (lane.group->threadgroup_epoch & 0xfffffu) << 10};
  const auto where = [&] { return within->name + " at byte " + std::to_string(offset - within->offset); };
  auto* const cells = reinterpret_cast<Cell*>(arena_.data());
  for (size_t i = offset; i < offset + size; i++) {
    Cell& cell = cells[i];
    if (access != Access::store && access != Access::atomic_store && cell.write_epoch < first_threadgroup_epoch_) {
      worker_.report(Kind::uninitialised_read, site,
                     "read of threadgroup memory that nothing was written to: " + where());
    }
    // The common case first: nothing of this epoch is there.
    if (cell.write_epoch < threadgroup_epoch_ && cell.read_epoch < threadgroup_epoch_) {
      if (store) {
        cell.write_epoch = threadgroup_epoch_;
        cell.write_by = me.packed | (access == Access::store ? 0 : 1u << 30);
        continue;
      }
    }
    note(cell, access, me, threadgroup_epoch_, Kind::threadgroup_race, where, site);
  }
}

// ---- device memory
// -------------------------------------------------------------------------------------------------------

Memory::DeviceRegion* Memory::find(const char* p, size_t size) {
  const auto holds = [&](const DeviceRegion& d) {
    return p >= d.region.begin && p + size <= d.region.begin + d.region.size;
  };
  if (recent_ != nullptr && holds(*recent_)) {
    return recent_;
  }
  for (DeviceRegion& d : device_) {
    if (holds(d)) {
      return recent_ = &d;
    }
  }
  return nullptr;
}

void Memory::check_device(DeviceRegion& device, char* p, size_t size, Access access, Site site, bool& allowed) {
  const Region& region = device.region;
  const auto offset = static_cast<size_t>(p - region.begin);
  const bool store = stores(access);
  const auto where = [&] { return region.name + " at byte " + std::to_string(offset); };
  if (store && region.read_only) {
    worker_.report(Kind::write_to_constant, site, "write to " + where() + ", which the kernel declares read-only");
    allowed = false;
    return;
  }
  if (char* const written = region.written; written != nullptr) {
    if (access != Access::store && access != Access::atomic_store &&
        std::find(written + offset, written + offset + size, 0) != written + offset + size) {
      worker_.report(Kind::uninitialised_read, site, "read of an output that nothing was written to: " + where());
    }
    if (store) {
      memset(written + offset, 1, size);
    }
  }
  (store ? device.bytes_stored : device.bytes_loaded) += size;
  auto& lines = store ? device.lines_stored : device.lines_loaded;
  for (size_t line = offset / kLine; line <= (offset + size - 1) / kLine; line++) {
    lines[line] = true;
  }
  if (device.cells.data() == nullptr) {
    return;
  }
  const Lane& lane = worker_.lane();
  const Who me{lane.position.thread_index_in_threadgroup | (lane.group->device_epoch & 0xfffffu) << 10};
  auto* const cells = reinterpret_cast<Cell*>(device.cells.data());
  for (size_t g = offset / region.granule; g <= (offset + size - 1) / region.granule; g++) {
    Cell& cell = cells[g];
    if (cell.write_epoch == 0 && cell.read_epoch == 0 && access == Access::store) {
      cell.write_epoch = device_epoch_;
      cell.write_by = me.packed;
      continue;
    }
    note(cell, access, me, device_epoch_, Kind::device_race, where, site);
  }
}

void Memory::report_outside(const char* p, size_t size, bool store, Site site) {
  const DeviceRegion* nearest = nullptr;
  size_t least = SIZE_MAX;
  for (const DeviceRegion& d : device_) {
    const char* end = d.region.begin + d.region.size;
    const auto distance = static_cast<size_t>(p < d.region.begin ? d.region.begin - p : p < end ? 0 : p - end);
    if (distance < least) {
      least = distance;
      nearest = &d;
    }
  }
  std::string message = std::string(store ? "write" : "read") + " of " + bytes(size) + " out of bounds";
  if (reinterpret_cast<uintptr_t>(p) < kNowhere) {
    message += ": of a buffer that is not bound";
  } else if (nearest != nullptr && least < size_t{1} << 30) {
    message += ": at byte " + std::to_string(p - nearest->region.begin) + " of " + nearest->region.name +
               ", which has " + bytes(nearest->region.size);
  }
  worker_.report(Kind::out_of_bounds, site, std::move(message));
}

void Memory::add_counters(Counters& counters) const {
  counters.threadgroup_bytes_loaded = threadgroup_loaded_;
  counters.threadgroup_bytes_stored = threadgroup_stored_;
  for (const Traffic& t : traffic()) {
    counters.device_bytes_loaded += t.bytes_loaded;
    counters.device_bytes_stored += t.bytes_stored;
    counters.device_lines_loaded += t.lines_loaded;
    counters.device_lines_stored += t.lines_stored;
  }
}

std::vector<Traffic> Memory::traffic() const {
  const auto count = [](const std::vector<bool>& lines) {
    return static_cast<uint64_t>(std::count(lines.begin(), lines.end(), true));
  };
  std::vector<Traffic> traffic;
  traffic.reserve(device_.size());
  for (const DeviceRegion& d : device_) {
    traffic.push_back({d.bytes_loaded, d.bytes_stored, count(d.lines_loaded), count(d.lines_stored)});
  }
  return traffic;
}

// ---- hooks
// -----------------------------------------------------------------------------------------------------------------

namespace {

template <Memory::Access kAccess>
void* access(void* p, uint32_t size, uint32_t align, Site site) {
  Memory& memory = *Worker::current()->memory();
  memory.check_alignment(p, align, site);
  return memory.check(p, size, kAccess, site);
}

void* store_range(void* p, uint64_t size, Site site) {
  return Worker::current()->memory()->check(p, size, Memory::Access::store, site);
}

void copy(void* to, void* from, uint64_t size, Site site) {
  Worker::current()->memory()->copy(static_cast<char*>(to), static_cast<char*>(from), size, site);
}

void declare_private(void* p, uint64_t size, Site /*site*/) {
  Worker::current()->memory()->declare_private(static_cast<char*>(p), size);
}

void* threadgroup_variable(uint32_t id, uint64_t size, uint64_t align, const char* name) {
  return Worker::current()->threadgroup_variable(id, size, align, name);
}

void declare_argument(void* p, uint64_t size, Site /*site*/) {
  Worker::current()->memory()->declare_argument(static_cast<char*>(p), size);
}

uint64_t divisor(uint64_t value, Site site) {
  if (value == 0) {
    Worker::current()->report(Kind::division_by_zero, site, "integer division by zero");
    return 1;
  }
  return value;
}

}  // namespace

void add_memory_hooks(Symbols& symbols) {
  symbols["sim.threadgroup"] = reinterpret_cast<void*>(threadgroup_variable);
  symbols["sim.load"] = reinterpret_cast<void*>(access<Memory::Access::load>);
  symbols["sim.store"] = reinterpret_cast<void*>(access<Memory::Access::store>);
  symbols["sim.store_range"] = reinterpret_cast<void*>(store_range);
  symbols["sim.copy"] = reinterpret_cast<void*>(copy);
  symbols["sim.private"] = reinterpret_cast<void*>(declare_private);
  symbols["sim.argument"] = reinterpret_cast<void*>(declare_argument);
  symbols["sim.divisor"] = reinterpret_cast<void*>(divisor);
  symbols["sim.steps"] = &executed_steps;
  symbols["sim.flops"] = &executed_flops;
}

}  // namespace deltamoe::sim
