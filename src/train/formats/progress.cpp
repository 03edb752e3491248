#include "train/formats/progress.h"

#include <fmt/format.h>

#include <algorithm>

namespace tempo::train {

Progress::Progress(int64_t total_steps, bool terminal, std::FILE* out, ProgressLine::Clock clock)
    : total_steps_(std::max<int64_t>(total_steps, 1)), line_(terminal, out, std::move(clock)) {}

std::vector<ProgressPart> progress_parts(const StepProgress& now, int64_t total_steps, const std::string& eta) {
  const int decimals = now.samples_per_second < 10 ? 2 : 0;
  const std::string rate = fmt::format("{:.{}f}", now.samples_per_second, decimals), left = eta + " left";
  std::vector<ProgressPart> parts{{fmt::format("{}/{}", now.step, total_steps), ""},
                                  {fmt::format("loss {:.4f}", now.loss), fmt::format("loss {:.4g}", now.loss)}};
  if (now.accuracy) {
    const std::string accuracy = fmt::format("acc {:.1f}%", 100 * *now.accuracy);
    parts.push_back({accuracy, accuracy});
  }
  parts.push_back({rate + " samples/s", rate + "/s"});
  if (now.workers > 0) {
    const std::string workers = fmt::format("{} worker{}", now.workers, now.workers == 1 ? "" : "s");
    parts.push_back({workers, workers});
  }
  parts.push_back({left, left});
  return parts;
}

void Progress::step(const StepProgress& now) {
  line_.update(now.step, total_steps_,
               [now, total = total_steps_](const std::string& eta) { return progress_parts(now, total, eta); });
}

}  // namespace tempo::train
