/// memcpy as the measure of a kernel, in the same run.
#pragma once

#include <benchmark/benchmark.h>

#include <cstddef>

#include "tempo/worker.h"

namespace tempo::bench {

/// CPU time of the process, so that a busy machine disturbs less.
double cpu_seconds();

/// memcpy of a given size, timed between the runs of a kernel: the same noise and equally cold caches for both.
class Yardstick {
 public:
  explicit Yardstick(size_t bytes);
  void run();
  /// Read and written.
  [[nodiscard]] double bytes_per_second() const { return bytes_ / seconds_; }

 private:
  contract::Buffer from_, to_;
  double seconds_ = 0, bytes_ = 0;
};

/// Times `run`, which reads and writes `useful_bytes` together, beside a memcpy that does. Sets the counters GB/s,
/// memcpy_GB/s and of_memcpy. The benchmark must use manual time.
template <class Run>
void time_beside_memcpy(benchmark::State& state, size_t useful_bytes, const Run& run) {
  Yardstick yardstick(useful_bytes / 2);
  yardstick.run();
  double seconds = 0;
  for (auto _ : state) {
    const double start = cpu_seconds();
    run();
    benchmark::ClobberMemory();
    const double taken = cpu_seconds() - start;
    state.SetIterationTime(taken);
    seconds += taken;
    yardstick.run();
  }
  const double speed = static_cast<double>(useful_bytes) * static_cast<double>(state.iterations()) / seconds;
  state.counters["GB/s"] = speed * 1e-9;
  state.counters["memcpy_GB/s"] = yardstick.bytes_per_second() * 1e-9;
  state.counters["of_memcpy"] = speed / yardstick.bytes_per_second();
}

}  // namespace tempo::bench
