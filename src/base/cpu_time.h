/// CPU seconds of the trusted part and of an in-process worker, told apart by thread name.
#pragma once

namespace tempo {

/// Threads that an in-process worker starts carry this name; threads they start in turn (OpenMP teams) inherit it.
inline constexpr const char* kWorkerThreadName = "tempo-worker";

/// Names the calling thread; at most 15 characters.
void name_this_thread(const char* name);

struct CpuSeconds {
  double tee = 0;     ///< every thread of this process that is not a worker's
  double worker = 0;  ///< live threads named kWorkerThreadName
};
/// Since the process began. Cheap enough for once a step (reads /proc/self/task).
/// @throws RunError where the kernel does not offer per-thread times.
CpuSeconds process_cpu_seconds();

}  // namespace tempo
