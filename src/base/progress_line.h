/// How far something is, for a person who watches: one redrawn line on a terminal, now and then a plain line elsewhere.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

namespace tempo {

/// One thing that a progress line says.
struct ProgressPart {
  std::string text;
  std::string brief;  ///< what stands there instead where the line is too narrow; may be empty
};

/// On a terminal: ` 42% [####......] PARTS`, redrawn at most ten times a second, never wider than the terminal (80
/// columns if that is unknown). Elsewhere the same without the bar, on a line of its own: at the first and last update,
/// at every 5%, and otherwise once 10 s have passed since the last line. A failure to write is ignored. Not
/// thread-safe.
class ProgressLine {
 public:
  /// Seconds since some fixed moment, never going back.
  using Clock = std::function<double()>;
  /// Makes PARTS. @param eta time left at the pace since the first update, e.g. 0:05 or 1:02:03; --:-- if unknown.
  using Describe = std::function<std::vector<ProgressPart>(const std::string& eta)>;

  /// @param terminal e.g. isatty(fileno(out)). @param out borrowed; stderr as a rule. @param clock for tests.
  ProgressLine(bool terminal, std::FILE* out, Clock clock = {});
  /// Ends the line on a terminal, the last state being drawn.
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  /// @param done of `total`, in any unit; `total` is at least 1. The first update may begin anywhere.
  void update(int64_t done, int64_t total, Describe describe);
  /// Prints a line of its own above the redrawn one.
  void note(const std::string& line);

 private:
  [[nodiscard]] bool due(double now) const;
  [[nodiscard]] std::string eta(double now) const;
  void draw(double now);

  bool terminal_;
  std::FILE* out_;
  Clock clock_;
  Describe describe_;  // of the last update; null before the first
  int64_t done_ = 0, total_ = 1;
  int64_t first_done_ = 0;
  double first_time_ = 0;
  bool is_drawn_ = false;
  int64_t drawn_done_ = 0;
  double drawn_time_ = 0;
};

/// One line of at most `width` columns: the bar shrinks and goes first, then the parts become brief, then the end is
/// cut.
std::string fit_progress_line(double fraction, const std::vector<ProgressPart>& parts, int width);

}  // namespace tempo
