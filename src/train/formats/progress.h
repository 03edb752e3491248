/// How far a run is, for a person who watches: one redrawn line on a terminal, now and then a plain line elsewhere.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

namespace tempo::train {

/// On a terminal: ` 42% [####......] 420/1000  loss 1.2345  512 samples/s  ETA 1:02:03`, redrawn at most ten times a
/// second, never wider than the terminal (80 columns if that is unknown). Elsewhere the same without the bar, on a line
/// of its own: at the first and last step, at every 5%, and otherwise once 10 s have passed since the last line. A
/// failure to write is ignored. Not thread-safe.
class Progress {
 public:
  /// Seconds since some fixed moment, never going back.
  using Clock = std::function<double()>;

  /// @param total_steps of the whole run, at least 1. @param terminal e.g. isatty(fileno(out)).
  /// @param out borrowed; stderr as a rule. @param clock for tests.
  Progress(int64_t total_steps, bool terminal, std::FILE* out, Clock clock = {});
  /// Ends the line on a terminal, the last state being drawn.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Call after every step. @param step steps done, 1..total_steps; a resumed run begins higher.
  void step(int64_t step, double loss, double samples_per_second);
  /// Prints a line of its own, e.g. at the end of an epoch, above the redrawn one.
  void note(const std::string& line);

 private:
  struct Reading {
    int64_t step = 0;
    double loss = 0, samples_per_second = 0;
  };

  [[nodiscard]] bool due(double now) const;
  [[nodiscard]] std::string describe(double now) const;
  void draw(double now);

  int64_t total_steps_;
  bool terminal_;
  std::FILE* out_;
  Clock clock_;
  Reading last_;
  int64_t first_step_ = 0;  // 0 until the first reading
  double first_time_ = 0;
  int64_t drawn_step_ = 0;
  double drawn_time_ = 0;
};

/// One line of at most `width` columns: the bar shrinks and goes first, then the end is cut. For Progress and its test.
std::string fit_progress_line(double fraction, const std::string& text, int width);

}  // namespace tempo::train
