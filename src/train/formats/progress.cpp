#include "train/formats/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace tempo::train {
namespace {

constexpr double kRedrawSeconds = 0.1, kLineSeconds = 10;
constexpr int64_t kLinesPerRun = 20;  // one every 5%
constexpr int kDefaultWidth = 80, kMinBar = 8, kMaxBar = 40;
constexpr const char* kEraseLine = "\r\x1b[K";

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int terminal_width(std::FILE* out) {
  winsize size{};
  if (::ioctl(::fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kDefaultWidth;
  return size.ws_col;
}

std::string format_seconds(double seconds) {
  if (!std::isfinite(seconds) || seconds > 1e8) return "--:--";
  const auto whole = static_cast<int64_t>(std::lround(seconds));
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace

std::string fit_progress_line(double fraction, const std::string& text, int width) {
  const double share = std::clamp(fraction, 0.0, 1.0);
  const std::string percent = fmt::format("{:3.0f}%", std::floor(share * 100));
  const int rest = width - static_cast<int>(percent.size() + text.size()) - 4;  // two spaces, two brackets
  std::string line = percent;
  if (const int bar = std::min(rest, kMaxBar); bar >= kMinBar) {
    const int filled = static_cast<int>(share * bar);
    line += fmt::format(" [{}{}]", std::string(static_cast<size_t>(filled), '#'),
                        std::string(static_cast<size_t>(bar - filled), '.'));
  }
  line += " " + text;
  line.resize(std::min(line.size(), static_cast<size_t>(std::max(width, 0))));
  return line;
}

Progress::Progress(int64_t total_steps, bool terminal, std::FILE* out, Clock clock)
    : total_steps_(std::max<int64_t>(total_steps, 1)),
      terminal_(terminal),
      out_(out),
      clock_(clock ? std::move(clock) : Clock(steady_seconds)) {}

Progress::~Progress() {
  if (!terminal_ || first_step_ == 0) return;
  try {
    draw(clock_());
    std::fputc('\n', out_);
    std::fflush(out_);
  } catch (...) {  // out of memory: the line stays as it is
  }
}

bool Progress::due(double now) const {
  if (drawn_step_ == 0 || last_.step >= total_steps_) return true;
  if (terminal_) return now - drawn_time_ >= kRedrawSeconds;
  const auto part = [&](int64_t step) {
    return static_cast<int64_t>(static_cast<double>(step) * kLinesPerRun / static_cast<double>(total_steps_));
  };
  return now - drawn_time_ >= kLineSeconds || part(last_.step) != part(drawn_step_);
}

std::string Progress::describe(double now) const {
  const int64_t done = last_.step - first_step_;
  const auto left = static_cast<double>(std::max<int64_t>(total_steps_ - last_.step, 0));
  const double seconds_a_step = done > 0 ? (now - first_time_) / static_cast<double>(done) : INFINITY;
  return fmt::format("{}/{}  loss {:.4f}  {:.{}f} samples/s  ETA {}", last_.step, total_steps_, last_.loss,
                     last_.samples_per_second, last_.samples_per_second < 10 ? 2 : 0,
                     left > 0 ? format_seconds(left * seconds_a_step) : "0:00");
}

void Progress::draw(double now) {
  const double fraction = static_cast<double>(last_.step) / static_cast<double>(total_steps_);
  const std::string text = describe(now);
  if (terminal_) {
    // One column stays free: a full last column makes some terminals wrap.
    std::fputs(kEraseLine, out_);
    std::fputs(fit_progress_line(fraction, text, terminal_width(out_) - 1).c_str(), out_);
  } else {
    std::fputs(fmt::format("{:3.0f}% {}\n", std::floor(std::clamp(fraction, 0.0, 1.0) * 100), text).c_str(), out_);
  }
  std::fflush(out_);
  drawn_step_ = last_.step;
  drawn_time_ = now;
}

void Progress::step(int64_t step, double loss, double samples_per_second) {
  const double now = clock_();
  last_ = {step, loss, samples_per_second};
  if (first_step_ == 0) {
    first_step_ = std::max<int64_t>(step, 1);
    first_time_ = now;
  }
  if (due(now)) draw(now);
}

void Progress::note(const std::string& line) {
  if (terminal_) std::fputs(kEraseLine, out_);
  std::fputs((line + "\n").c_str(), out_);
  if (terminal_ && first_step_ != 0) draw(clock_());
  std::fflush(out_);
}

}  // namespace tempo::train
