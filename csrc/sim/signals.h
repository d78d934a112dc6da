// A crash or an endless loop in kernel code ends the launch, not the process.
#pragma once

#include <pthread.h>

#include <array>
#include <csignal>

namespace deltamoe::sim {

// While it lives, SIGSEGV, SIGBUS, SIGFPE and SIGILL raised by kernel code on a worker's thread abandon its launch;
// those of other threads go where they went before.
class FaultHandlers {
 public:
  FaultHandlers();
  ~FaultHandlers();
  FaultHandlers(const FaultHandlers&) = delete;
  FaultHandlers& operator=(const FaultHandlers&) = delete;
};

// A stack for the signal handlers of the calling thread: the lane's own may be what overflowed.
class SignalStack {
 public:
  SignalStack();
  ~SignalStack();
  SignalStack(const SignalStack&) = delete;
  SignalStack& operator=(const SignalStack&) = delete;

 private:
  std::array<char, 64 << 10> stack_;
  stack_t before_{};
};

// Has the worker on that thread give up its launch. `why` must outlive the launch.
void cancel(pthread_t thread, const char* why);

}  // namespace deltamoe::sim
