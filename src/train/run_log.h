/// What a run leaves in its directory for people and scripts: metrics.jsonl, TensorBoard events, summary.json.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "tempo/run.h"
#include "train/formats/tensorboard.h"

namespace tempo::train {

struct StepMetrics {
  int64_t step = 0;  ///< 1-based
  int64_t epoch = 0;
  double loss = 0, learning_rate = 0, gradient_norm = 0;
  double seconds = 0, tee_cpu_seconds = 0, samples_per_second = 0;
};

/// Appends; what a resumed run would write twice is dropped first. Not thread-safe.
class RunLog {
 public:
  /// @param first_step steps already done: later lines of an older metrics.jsonl are cut off. @throws RunError
  RunLog(const std::filesystem::path& run, int64_t first_step);
  /// Lines go to `keeper`, which is borrowed; no file is written.
  explicit RunLog(RunKeeper& keeper) : keeper_(&keeper) {}
  void step(const StepMetrics& metrics);
  void evaluation(int64_t step, int64_t epoch, double accuracy, double loss);
  void flush();

 private:
  struct Closer {
    void operator()(std::FILE* file) const noexcept { std::fclose(file); }
  };
  void line(int64_t step, const std::string& text);
  void event(const char* name, double value, int64_t step);

  RunKeeper* keeper_ = nullptr;  ///< nullptr: the files
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Closer> file_;
  std::optional<TensorBoardWriter> events_;
};

/// What summary.json holds.
std::string to_json(const RunSummary& summary);
void write_summary(const RunSummary& summary, const std::filesystem::path& run);
/// The few lines that end a run on the terminal.
std::string to_text(const RunSummary& summary);

}  // namespace tempo::train
