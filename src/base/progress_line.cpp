#include "base/progress_line.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace tempo {
namespace {

constexpr double kRedrawSeconds = 0.1, kLineSeconds = 10;
constexpr int64_t kLines = 20;  // one every 5%
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

std::string full_text(const std::vector<ProgressPart>& parts) {
  std::string joined;
  for (const auto& part : parts) joined += (joined.empty() ? "" : "  ") + part.text;
  return joined;
}

std::string brief_text(const std::vector<ProgressPart>& parts) {
  std::string joined;
  for (const auto& part : parts)
    if (!part.brief.empty()) joined += (joined.empty() ? "" : " ") + part.brief;
  return joined;
}

std::string percent_of(double share) { return fmt::format("{:3.0f}%", std::floor(share * 100)); }

}  // namespace

std::string fit_progress_line(double fraction, const std::vector<ProgressPart>& parts, int width) {
  const double share = std::clamp(fraction, 0.0, 1.0);
  const std::string percent = percent_of(share);
  const auto room_beside = [&](const std::string& text) {
    return width - static_cast<int>(percent.size() + text.size()) - 1;
  };
  std::string text = full_text(parts);
  if (room_beside(text) < 0) text = brief_text(parts);
  const int rest = room_beside(text) - 3;  // a space, two brackets
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

ProgressLine::ProgressLine(bool terminal, std::FILE* out, Clock clock)
    : terminal_(terminal), out_(out), clock_(clock ? std::move(clock) : Clock(steady_seconds)) {}

ProgressLine::~ProgressLine() {
  if (!terminal_ || !describe_) return;
  try {
    draw(clock_());
    std::fputc('\n', out_);
    std::fflush(out_);
  } catch (...) {  // out of memory: the line stays as it is
  }
}

bool ProgressLine::due(double now) const {
  if (!is_drawn_ || done_ >= total_) return true;
  if (terminal_) return now - drawn_time_ >= kRedrawSeconds;
  const auto part = [&](int64_t done) {
    return static_cast<int64_t>(static_cast<double>(done) * kLines / static_cast<double>(total_));
  };
  return now - drawn_time_ >= kLineSeconds || part(done_) != part(drawn_done_);
}

std::string ProgressLine::eta(double now) const {
  const auto left = static_cast<double>(std::max<int64_t>(total_ - done_, 0));
  if (left == 0) return format_seconds(0);
  const int64_t since_first = done_ - first_done_;
  return format_seconds(since_first > 0 ? left * (now - first_time_) / static_cast<double>(since_first) : INFINITY);
}

void ProgressLine::draw(double now) {
  const double fraction = static_cast<double>(done_) / static_cast<double>(total_);
  const std::vector<ProgressPart> parts = describe_(eta(now));
  if (terminal_) {
    // One column stays free: a full last column makes some terminals wrap.
    std::fputs(kEraseLine, out_);
    std::fputs(fit_progress_line(fraction, parts, terminal_width(out_) - 1).c_str(), out_);
  } else {
    std::fputs(fmt::format("{} {}\n", percent_of(std::clamp(fraction, 0.0, 1.0)), full_text(parts)).c_str(), out_);
  }
  std::fflush(out_);
  is_drawn_ = true;
  drawn_done_ = done_;
  drawn_time_ = now;
}

void ProgressLine::update(int64_t done, int64_t total, Describe describe) {
  const double now = clock_();
  const bool is_first = !describe_;
  done_ = done;
  total_ = std::max<int64_t>(total, 1);
  describe_ = std::move(describe);
  if (is_first) {
    first_done_ = done;
    first_time_ = now;
  }
  if (due(now)) draw(now);
}

void ProgressLine::note(const std::string& line) {
  if (terminal_) std::fputs(kEraseLine, out_);
  std::fputs((line + "\n").c_str(), out_);
  if (terminal_ && describe_) draw(clock_());
  std::fflush(out_);
}

}  // namespace tempo
