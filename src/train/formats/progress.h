/// How far a run is, for a person who watches.
#pragma once

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "base/progress_line.h"

namespace tempo::train {

struct StepProgress {
  int64_t step = 0;  ///< steps done, 1..total; a resumed run begins higher
  double loss = 0;
  double samples_per_second = 0;
  std::optional<double> accuracy;  ///< of the last evaluation, 0 to 1
  size_t workers = 0;              ///< that have a share of the work; 0 where all is done in the TEE
};

/// What a progress line says of a step, in the order of the line. A brief line leaves the count of steps out.
/// @param eta time left, as ProgressLine gives it
std::vector<ProgressPart> progress_parts(const StepProgress& now, int64_t total_steps, const std::string& eta);

/// ` 42% [####......] 420/1000  loss 1.2345  acc 45.1%  512 samples/s  2 workers  1:02:03 left`, drawn as ProgressLine
/// does. Not thread-safe.
class Progress {
 public:
  /// @param total_steps of the whole run, at least 1. The rest as for ProgressLine.
  Progress(int64_t total_steps, bool terminal, std::FILE* out, ProgressLine::Clock clock = {});

  /// Call after every step.
  void step(const StepProgress& now);
  /// Prints a line of its own, e.g. at the end of an epoch, above the redrawn one.
  void note(const std::string& line) { line_.note(line); }

 private:
  int64_t total_steps_;
  ProgressLine line_;
};

}  // namespace tempo::train
