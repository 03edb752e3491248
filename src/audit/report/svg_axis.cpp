#include "audit/report/svg_axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "audit/report/text.h"

namespace tempo::audit::svg {
namespace {

constexpr std::array<std::string_view, 7> kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                      "#e69f00", "#56b4e9", "#7f7f7f"};
constexpr std::array<std::string_view, 3> kDashes = {"", "7 3", "2 3"};

std::vector<double> log_ticks(double low, double high) {
  const int first = static_cast<int>(std::floor(std::log10(low))), last = static_cast<int>(std::ceil(std::log10(high)));
  const int stride = std::max(1, (last - first + 7) / 8);
  const bool finer = last - first <= 2;
  std::vector<double> ticks;
  for (int power = first; power <= last; power += stride) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double tick = factor * std::pow(10.0, power);
      if ((factor == 1 || finer) && tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) ticks.push_back(tick);
    }
  }
  return ticks;
}

std::vector<double> linear_ticks(double low, double high) {
  const double rough = (high - low) / 5, power = std::pow(10.0, std::floor(std::log10(rough)));
  const double digit = rough / power;
  const double step = power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
  std::vector<double> ticks;
  const double first = std::ceil(low / step - 1e-9);
  for (int i = 0; i < 20; ++i) {
    const double tick = (first + i) * step;
    if (tick > high + 1e-9 * step) break;
    ticks.push_back(tick == 0 ? 0 : tick);
  }
  return ticks;
}

}  // namespace

Axis::Axis(double low, double high, double pixel_low, double pixel_high, bool log)
    : low_(low), high_(high), pixel_low_(pixel_low), pixel_high_(pixel_high), log_(log) {
  if (log_) {
    if (!(low_ > 0) || !std::isfinite(high_)) low_ = high_ = 1;
    if (!(high_ > low_ * 1.01)) {
      low_ /= 2;
      high_ = low_ * 4;
    }
    return;
  }
  if (!std::isfinite(low_) || !std::isfinite(high_)) low_ = high_ = 0;
  if (!(high_ - low_ > 1e-12 * std::max(std::abs(low_), std::abs(high_)))) high_ = low_ + std::max(1.0, std::abs(low_));
}

bool Axis::can_place(double value) const { return std::isfinite(value) && (!log_ || value > 0); }

double Axis::at(double value) const {
  const double share =
      log_ ? (std::log(value) - std::log(low_)) / (std::log(high_) - std::log(low_)) : (value - low_) / (high_ - low_);
  return pixel_low_ + share * (pixel_high_ - pixel_low_);
}

std::vector<double> Axis::ticks() const { return log_ ? log_ticks(low_, high_) : linear_ticks(low_, high_); }

std::string tick_label(double value) {
  const double size = std::abs(value);
  if (size >= 1e3 && size < 1e6) return format_compact(value);
  return fmt::format("{:.4g}", value);
}

std::string_view colour(size_t series) { return kColours[series % kColours.size()]; }

std::string dash(size_t series) {
  const std::string_view pattern = kDashes[series / kColours.size() % kDashes.size()];
  return pattern.empty() ? "" : fmt::format(" stroke-dasharray=\"{}\"", pattern);
}

std::string marker(size_t series, double x, double y) {
  const std::string_view fill = colour(series);
  switch (series % 4) {
    case 0:
      return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\" fill=\"{}\"/>", x, y, fill);
    case 1:
      return fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"7\" height=\"7\" fill=\"{}\"/>", x - 3.5, y - 3.5,
                         fill);
    case 2:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l4.5 8h-9z\" fill=\"{}\"/>", x, y - 4.5, fill);
    default:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l4.5 4.5l-4.5 4.5l-4.5 -4.5z\" fill=\"{}\"/>", x, y - 4.5, fill);
  }
}

std::string text(double x, double y, Anchor anchor, std::string_view text, double size, double opacity) {
  const std::string_view side = anchor == Anchor::kStart ? "start" : anchor == Anchor::kMiddle ? "middle" : "end";
  return fmt::format(
      "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" font-size=\"{:g}\" fill=\"currentColor\" "
      "fill-opacity=\"{:g}\">{}</text>",
      x, y, side, size, opacity, escape_html(text));
}

std::string line(double x1, double y1, double x2, double y2, double opacity, bool dashed) {
  return fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"currentColor\" "
      "stroke-opacity=\"{:g}\"{}/>",
      x1, y1, x2, y2, opacity, dashed ? " stroke-dasharray=\"5 4\"" : "");
}

std::string shortened(const std::string& text, size_t most) {
  size_t characters = 0, cut = text.size();
  for (size_t i = 0; i < text.size(); ++i) {
    const bool starts = (static_cast<unsigned char>(text[i]) & 0xc0) != 0x80;  // of a UTF-8 character
    if (starts && characters++ == most - 3) cut = i;
  }
  return characters <= most ? text : text.substr(0, cut) + "...";
}

double width_of(const std::string& text, double size) { return 0.56 * size * static_cast<double>(text.size()); }

Legend legend(const std::vector<LegendEntry>& entries, double x, double y, double width, bool bars) {
  constexpr double kSample = 26, kGap = 18, kLine = 18;
  Legend out;
  double at_x = x, at_y = y;
  for (const LegendEntry& entry : entries) {
    const double size = kSample + width_of(entry.name);
    if (at_x > x && at_x + size > x + width) {
      at_x = x;
      at_y += kLine;
    }
    if (bars) {
      out.svg += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"12\" height=\"12\" fill=\"{}\"/>", at_x + 6,
                             at_y - 10, colour(entry.series));
    } else {
      out.svg += fmt::format(
          "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" stroke-width=\"2\"{}/>", at_x,
          at_y - 4, at_x + 20, at_y - 4, colour(entry.series), dash(entry.series));
      out.svg += marker(entry.series, at_x + 10, at_y - 4);
    }
    out.svg += text(at_x + kSample, at_y, Anchor::kStart, entry.name);
    at_x += size + kGap;
  }
  out.height = entries.empty() ? 0 : at_y - y + kLine;
  return out;
}

std::string document(double width, double height, const std::string& title, const std::string& content) {
  return fmt::format(
      "<svg viewBox=\"0 0 {:.0f} {:.0f}\" width=\"{:.0f}\" height=\"{:.0f}\" role=\"img\" aria-label=\"{}\" "
      "font-family=\"system-ui, sans-serif\">{}</svg>\n",
      width, height, width, height, escape_html(title), content);
}

}  // namespace tempo::audit::svg
