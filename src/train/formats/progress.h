/// How far a run is, for a person who watches.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "base/progress_line.h"

namespace tempo::train {

/// ` 42% [####......] 420/1000  loss 1.2345  512 samples/s  ETA 1:02:03`, drawn as ProgressLine does. Not thread-safe.
class Progress {
 public:
  /// @param total_steps of the whole run, at least 1. The rest as for ProgressLine.
  Progress(int64_t total_steps, bool terminal, std::FILE* out, ProgressLine::Clock clock = {});

  /// Call after every step. @param step steps done, 1..total_steps; a resumed run begins higher.
  void step(int64_t step, double loss, double samples_per_second);
  /// Prints a line of its own, e.g. at the end of an epoch, above the redrawn one.
  void note(const std::string& line) { line_.note(line); }

 private:
  int64_t total_steps_;
  ProgressLine line_;
};

}  // namespace tempo::train
