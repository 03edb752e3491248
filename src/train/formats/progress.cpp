#include "train/formats/progress.h"

#include <fmt/format.h>

#include <algorithm>

namespace tempo::train {

Progress::Progress(int64_t total_steps, bool terminal, std::FILE* out, ProgressLine::Clock clock)
    : total_steps_(std::max<int64_t>(total_steps, 1)), line_(terminal, out, std::move(clock)) {}

void Progress::step(int64_t step, double loss, double samples_per_second) {
  line_.update(step, total_steps_, [=, total = total_steps_](const std::string& eta) {
    return fmt::format("{}/{}  loss {:.4f}  {:.{}f} samples/s  ETA {}", step, total, loss, samples_per_second,
                       samples_per_second < 10 ? 2 : 0, eta);
  });
}

}  // namespace tempo::train
