#include "sim/signals.h"

#include <atomic>

#include "sim/worker.h"

namespace deltamoe::sim {
namespace {

constexpr int kCancel = SIGURG;  // ignored by default, and used by nobody within a process
constexpr std::array kFaults{SIGSEGV, SIGBUS, SIGFPE, SIGILL};

std::array<struct sigaction, kFaults.size()> previous_faults;
struct sigaction previous_cancel;
std::atomic<const char*> reason{nullptr};

const char* describe(int signal) {
  switch (signal) {
    case SIGFPE:
      return "integer division by zero";
    case SIGILL:
      return "code that cannot be reached was reached";
    default:
      return "access to memory that is not the kernel's, or private memory beyond 256 KB";
  }
}

void on_fault(int signal, siginfo_t* info, void* context) {
  if (Worker* worker = Worker::current(); worker != nullptr && worker->in_kernel()) {
    worker->abandon(describe(signal));
  }
  for (size_t i = 0; i < kFaults.size(); i++) {
    if (kFaults[i] != signal) {
      continue;
    }
    const struct sigaction& before = previous_faults[i];
    if ((before.sa_flags & SA_SIGINFO) != 0) {
      before.sa_sigaction(signal, info, context);
    } else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) {
      sigaction(signal, &before, nullptr);  // returning runs the faulting instruction again
    } else {
      before.sa_handler(signal);
    }
  }
}

void on_cancel(int /*signal*/) {
  if (Worker* worker = Worker::current(); worker != nullptr) {
    worker->cancel(reason.load());
  }
}

}  // namespace

FaultHandlers::FaultHandlers() {
  // The handlers do not return when they abandon a launch: no signal may be left blocked.
  struct sigaction action{};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (size_t i = 0; i < kFaults.size(); i++) {
    sigaction(kFaults[i], &action, &previous_faults[i]);
  }
  struct sigaction cancel_action{};
  cancel_action.sa_handler = on_cancel;
  cancel_action.sa_flags = SA_ONSTACK | SA_NODEFER | SA_RESTART;
  sigaction(kCancel, &cancel_action, &previous_cancel);
}

FaultHandlers::~FaultHandlers() {
  for (size_t i = 0; i < kFaults.size(); i++) {
    sigaction(kFaults[i], &previous_faults[i], nullptr);
  }
  sigaction(kCancel, &previous_cancel, nullptr);
}

SignalStack::SignalStack() {
  stack_t mine{};
  mine.ss_sp = stack_.data();
  mine.ss_size = stack_.size();
  sigaltstack(&mine, &before_);
}

SignalStack::~SignalStack() { sigaltstack(&before_, nullptr); }

void cancel(pthread_t thread, const char* why) {
  reason = why;
  pthread_kill(thread, kCancel);
}

}  // namespace deltamoe::sim
