/// What metrics.jsonl says, in bounded memory: for a page, live or of a run that is over.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "page/bucket_series.h"

namespace tempo::page {

constexpr size_t kMaxMetricsLineBytes = 16 << 10;

/// Lines of docs/formats/run-directory.md. They may come from a file that the user names: whatever is in it, memory and
/// the time a line takes are bounded, and what is no such line is refused. Not thread-safe.
class RunHistory {
 public:
  static constexpr size_t kMostEvents = 2000;

  RunHistory();
  /// @param line without its end. @throws InputError "got ..., expected ...", and then nothing was taken.
  void add_line(std::string_view line);
  /// Steps after `step` are void, and done again. Events stay.
  void went_back(int64_t step);

  /// Where a reader of the JSON stands. Who asks for the first time has {}.
  struct Cursor {
    uint64_t generation = 0;
    size_t steps = 0, tests = 0, events = 0;
  };
  /// {"generation":G,"epoch":E,"steps":{...},"tests":{...},"events":{"from":N,"dropped":N,"list":[...]}}: what came
  /// after `since`, and all there is where that is of another generation. `steps` and `tests` are as of BucketSeries.
  [[nodiscard]] std::string to_json(const Cursor& since) const;
  [[nodiscard]] std::string to_json() const { return to_json(Cursor()); }
  [[nodiscard]] int64_t last_step() const { return steps_.last_step(); }

 private:
  struct Line;
  void add_event(const Line& line);

  BucketSeries steps_, tests_;
  std::vector<std::string> events_;  // JSON objects, made here
  std::vector<bool> is_checkpoint_;  // of each event
  uint64_t events_dropped_ = 0, events_changes_ = 0;
  int64_t epoch_ = 0;
};

/// Reads a whole metrics.jsonl. A last line without an end, as a running or killed process leaves it, is left out.
/// @param is_torn set if there was one. @throws InputError "FILE: line N: got ..., expected ...", or if there is no
/// such file, or it is no file.
RunHistory read_metrics(const std::filesystem::path& file, bool& is_torn);

}  // namespace tempo::page
