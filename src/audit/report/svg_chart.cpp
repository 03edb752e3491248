#include "audit/report/svg_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "audit/report/svg_axis.h"
#include "audit/report/text.h"

namespace tempo::audit {
namespace {

using svg::Anchor;
using svg::Axis;

constexpr double kWidth = 640;

/// Smallest and largest of what can be drawn.
struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void include(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  [[nodiscard]] bool empty() const { return low > high; }
};

std::string nothing(const std::string& title) {
  return svg::document(kWidth, 40, title, svg::text(kWidth / 2, 25, Anchor::kMiddle, "nothing to draw"));
}

struct Frame {
  double left = 56, right = kWidth - 16, top = 12, bottom = 262;
};

std::string draw_axes(const LineChart& chart, const Axis& x, const Axis& y, const Frame& frame) {
  std::string out;
  for (const double tick : y.ticks()) {
    out += svg::line(frame.left, y.at(tick), frame.right, y.at(tick), 0.15);
    out += svg::text(frame.left - 8, y.at(tick) + 4, Anchor::kEnd, svg::tick_label(tick));
  }
  for (const double tick : x.ticks()) {
    out += svg::line(x.at(tick), frame.bottom, x.at(tick), frame.bottom + 5, 0.6);
    out += svg::text(x.at(tick), frame.bottom + 19, Anchor::kMiddle, svg::tick_label(tick));
  }
  out += svg::line(frame.left, frame.top, frame.left, frame.bottom, 0.6);
  out += svg::line(frame.left, frame.bottom, frame.right, frame.bottom, 0.6);
  out += svg::text((frame.left + frame.right) / 2, frame.bottom + 38, Anchor::kMiddle, chart.x_label);
  const double middle = (frame.top + frame.bottom) / 2;
  out += fmt::format("<g transform=\"rotate(-90 14 {0:.1f})\">{1}</g>", middle,
                     svg::text(14, middle, Anchor::kMiddle, chart.y_label));
  return out;
}

std::string draw_series(const Series& series, size_t number, const Axis& x, const Axis& y) {
  std::string points, markers;
  for (size_t i = 0; i < std::min(series.x.size(), series.y.size()); ++i) {
    if (!x.can_place(series.x[i]) || !y.can_place(series.y[i])) continue;
    const double at_x = x.at(series.x[i]), at_y = y.at(series.y[i]);
    points += fmt::format("{}{:.1f},{:.1f}", points.empty() ? "" : " ", at_x, at_y);
    markers += svg::marker(number, at_x, at_y);
  }
  return fmt::format(
      "<g><title>{}</title><polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{}/>{}</g>",
      escape_html(series.name), points, svg::colour(number), svg::dash(number), markers);
}

std::string draw_references(const std::vector<ReferenceLine>& references, const Axis& y, const Frame& frame) {
  std::string out;
  for (const ReferenceLine& reference : references) {
    if (!y.can_place(reference.value)) continue;
    out += svg::line(frame.left, y.at(reference.value), frame.right, y.at(reference.value), 0.8, true);
    out += svg::text(frame.right - 4, y.at(reference.value) - 5, Anchor::kEnd, reference.label, 11, 0.85);
  }
  return out;
}

std::string value_text(const BarChart& chart, double value) {
  return chart.percent ? format_percent(value) : format_compact(value);
}

constexpr double kBar = 14, kBetweenGroups = 10;

/// The bars of one group, the first one's top at `top`.
std::string draw_group(const BarChart& chart, size_t group, const Axis& x, double top) {
  std::string out;
  for (size_t s = 0; s < chart.series.size(); ++s) {
    const double bar_top = top + kBar * static_cast<double>(s);
    const std::vector<double>& values = chart.series[s].values;
    const double value = group < values.size() ? values[group] : std::numeric_limits<double>::quiet_NaN();
    if (!std::isfinite(value)) {
      out += svg::text(x.at(0) + 4, bar_top + kBar - 3, Anchor::kStart, "not measured", 11, 0.7);
      continue;
    }
    const double width = std::max(0.0, x.at(value) - x.at(0));
    out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:g}\" fill=\"{}\"/>", x.at(0),
                       bar_top + 1, width, kBar - 2, svg::colour(s));
    out += svg::text(x.at(0) + width + 5, bar_top + kBar - 3, Anchor::kStart, value_text(chart, value), 11);
  }
  return out;
}

std::string draw_bar_axis(const BarChart& chart, const Axis& x, double top, double bottom) {
  std::string out;
  for (const double tick : x.ticks()) {
    out += svg::line(x.at(tick), top, x.at(tick), bottom, 0.15);
    const std::string label = chart.percent ? fmt::format("{:.0f}%", 100 * tick) : svg::tick_label(tick);
    out += svg::text(x.at(tick), bottom + 16, Anchor::kMiddle, label);
  }
  out += svg::line(x.at(0), top, x.at(0), bottom, 0.6);
  double label_y = top - 6 - 13 * static_cast<double>(chart.references.size() - (chart.references.empty() ? 0 : 1));
  for (const ReferenceLine& reference : chart.references) {  // labels one above the other: lines may be near
    if (!x.can_place(reference.value)) continue;
    const double at = x.at(reference.value);
    out += svg::line(at, label_y + 3, at, bottom, 0.8, true);
    out += svg::text(at, label_y, at > 0.7 * kWidth ? Anchor::kEnd : Anchor::kMiddle, reference.label, 11, 0.85);
    label_y += 13;
  }
  return out;
}

}  // namespace

std::string line_chart(const LineChart& chart) {
  Range x_range, y_range;
  for (const Series& series : chart.series) {
    for (size_t i = 0; i < std::min(series.x.size(), series.y.size()); ++i) {
      if (!std::isfinite(series.x[i]) || !std::isfinite(series.y[i]) || (chart.log_x && series.x[i] <= 0)) continue;
      x_range.include(series.x[i]);
      y_range.include(series.y[i]);
    }
  }
  if (x_range.empty()) return nothing(chart.title);
  y_range.include(chart.y_min);
  y_range.include(chart.y_max);
  for (const ReferenceLine& reference : chart.references) y_range.include(reference.value);

  const Frame frame;
  const Axis x(x_range.low, x_range.high, frame.left + 8, frame.right - 8, chart.log_x);
  const Axis y(y_range.low, y_range.high, frame.bottom, frame.top, false);
  std::string content = draw_axes(chart, x, y, frame) + draw_references(chart.references, y, frame);
  std::vector<svg::LegendEntry> entries;
  for (size_t i = 0; i < chart.series.size(); ++i) {
    content += draw_series(chart.series[i], i, x, y);
    entries.push_back({svg::shortened(chart.series[i].name, 60), i});
  }
  const double legend_top = frame.bottom + 62;
  const svg::Legend legend = svg::legend(entries, frame.left, legend_top, frame.right - frame.left, false);
  return svg::document(kWidth, legend_top + legend.height, chart.title, content + legend.svg);
}

std::string bar_chart(const BarChart& chart) {
  if (chart.groups.empty() || chart.series.empty()) return nothing(chart.title);
  Range range;
  range.include(0);
  range.include(chart.x_max);
  for (const BarSeries& series : chart.series)
    for (const double value : series.values) range.include(value);
  for (const ReferenceLine& reference : chart.references) range.include(reference.value);

  std::vector<std::string> names;
  double left = 40;
  for (const std::string& group : chart.groups) {
    names.push_back(svg::shortened(group, 52));
    left = std::max(left, svg::width_of(names.back()) + 16);
  }
  const double top = 8 + 13 * static_cast<double>(chart.references.size());
  const double group_height = kBar * static_cast<double>(chart.series.size()) + kBetweenGroups;
  const double bottom = top + group_height * static_cast<double>(chart.groups.size());
  const Axis x(std::min(0.0, range.low), range.high, left, kWidth - 60, false);

  std::string content = draw_bar_axis(chart, x, top, bottom);
  for (size_t g = 0; g < chart.groups.size(); ++g) {
    const double group_top = top + kBetweenGroups / 2 + group_height * static_cast<double>(g);
    const double middle = group_top + (group_height - kBetweenGroups) / 2;
    content += fmt::format("<g><title>{}</title>{}</g>", escape_html(chart.groups[g]),
                           svg::text(left - 8, middle + 4, Anchor::kEnd, names[g]));
    content += draw_group(chart, g, x, group_top);
  }
  content += svg::text((left + kWidth - 60) / 2, bottom + 34, Anchor::kMiddle, chart.x_label);
  double height = bottom + 44;
  if (chart.series.size() > 1) {
    std::vector<svg::LegendEntry> entries;
    for (size_t s = 0; s < chart.series.size(); ++s) entries.push_back({svg::shortened(chart.series[s].name, 60), s});
    const svg::Legend legend = svg::legend(entries, left, height + 12, kWidth - left, true);
    content += legend.svg;
    height += 12 + legend.height;
  }
  return svg::document(kWidth, height, chart.title, content);
}

}  // namespace tempo::audit
