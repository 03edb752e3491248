/// What a run leaves in its directory for people and scripts: metrics.jsonl, TensorBoard events, summary.json.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "offload/session.h"
#include "page/live_page.h"
#include "tempo/run.h"
#include "train/formats/tensorboard.h"

namespace tempo::train {

struct StepMetrics {
  int64_t step = 0;  ///< 1-based
  int64_t epoch = 0;
  double loss = 0, learning_rate = 0, gradient_norm = 0;
  double seconds = 0, tee_cpu_seconds = 0, samples_per_second = 0;
  offload::Counters offload;                              ///< of this step
  uint64_t integrity_checks = 0, integrity_failures = 0;  ///< since the line before
  uint64_t workers = 0;                                   ///< with a share of the work, after the step
  uint64_t resident_bytes = 0;                            ///< of this process, after the step
};

struct EvaluationMetrics {
  int64_t step = 0, epoch = 0;
  double accuracy = 0, loss = 0;
  uint64_t integrity_checks = 0, integrity_failures = 0;  ///< since the line before
};

/// Something that happened to workers or checkpoints: a name of the code, and what is known of it.
struct RunEvent {
  std::string event;
  int64_t during = 0;  ///< step that it happened in, from 1
  std::string worker{}, operation{}, reason{};
  std::optional<int64_t> to_step{}, workers{};
};

/// Appends; what a resumed run would write twice is dropped first. Not thread-safe.
class RunLog {
 public:
  /// @param first_step steps already done: later lines of an older metrics.jsonl are cut off. @throws RunError
  /// @param page gets all lines, too, or nullptr; borrowed.
  RunLog(std::filesystem::path run, int64_t first_step, page::LivePage* page = nullptr);
  /// Lines go to `keeper`, which is borrowed; no file is written.
  explicit RunLog(RunKeeper& keeper) : keeper_(&keeper) {}
  void step(const StepMetrics& metrics);
  void evaluation(const EvaluationMetrics& metrics);
  /// @param step steps done when it happened. A process writes at most 10,000, and at most 4 a step about parts that
  /// went to a second worker.
  void happened(int64_t step, const RunEvent& event);
  /// Later steps are void, and done again. What happened in them stays, as of `step`.
  void went_back(int64_t step);
  /// What was written until now will not be gone back behind.
  void saved() { unsaved_events_.clear(); }
  void flush();

 private:
  struct Closer {
    void operator()(std::FILE* file) const noexcept { std::fclose(file); }
  };
  void open(int64_t first_step);
  void line(int64_t step, const std::string& text);
  void scalar(const char* name, double value, int64_t step);

  RunKeeper* keeper_ = nullptr;  ///< nullptr: the files
  page::LivePage* page_ = nullptr;
  std::vector<std::pair<int64_t, RunEvent>>
      unsaved_events_;  ///< and steps done; for the keeper, which cuts lines itself
  int64_t events_ = 0, reissued_during_ = 0, reissued_ = 0;
  std::filesystem::path run_, path_;
  std::unique_ptr<std::FILE, Closer> file_;
  std::optional<TensorBoardWriter> scalars_;
};

/// What summary.json holds.
std::string to_json(const RunSummary& summary);
void write_summary(const RunSummary& summary, const std::filesystem::path& run);
/// The few lines that end a run on the terminal.
std::string to_text(const RunSummary& summary);

}  // namespace tempo::train
