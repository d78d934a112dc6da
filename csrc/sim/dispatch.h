// Running a whole dispatch: buffers behind guard pages, workers, the clock.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "sim/memory.h"
#include "sim/types.h"
#include "sim/worker.h"

namespace deltamoe::sim {

// The caller's memory that a kernel works on: copied into guarded memory before the dispatch, and back after it.
struct Buffer {
  std::string name;
  char* data = nullptr;
  size_t size = 0;
  bool read_only = false;
  uint32_t granule = 1;
  char* written = nullptr;  // whether each byte is; null: all are. Kept up to date in checked mode
};

struct Binding {
  uint32_t index = 0;  // [[buffer(index)]]
  size_t buffer = 0;   // into Dispatch::buffers
  size_t offset = 0;   // bytes
};

struct Dispatch {
  Launch launch;  // its buffers are filled in here
  std::vector<Buffer> buffers;
  std::vector<Binding> bindings;
  bool checked = false;
  unsigned workers = 1;  // threads, in fast mode
  double timeout = 60;   // seconds
};

struct Outcome {
  std::string fault;    // empty: it ran to its end
  Site site = kNoSite;  // of the last rendezvous of the lane that failed
  Dim threadgroup{};
  uint32_t simdgroup = 0, lane = 0;
  std::vector<Report> reports;
  Counters counters;
  std::vector<Traffic> traffic;  // by Dispatch::buffers; checked mode only
  double seconds = 0;
};

// Runs it. `interrupted` is asked a few times a second whether to give up. One dispatch runs at a time.
Outcome run(Dispatch& dispatch, const std::function<bool()>& interrupted);

}  // namespace deltamoe::sim
