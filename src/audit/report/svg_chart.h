/// Charts as inline SVG for an HTML page: no script, no style sheet, text in the page's own colour, so that they fit a
/// light and a dark page. Series differ in colour (Okabe and Ito's palette, safe for the colour-blind), marker and
/// dash.
#pragma once

#include <string>
#include <vector>

namespace tempo::audit {

/// Values that are not finite, and x <= 0 on a log axis, are left out.
struct Series {
  std::string name;
  std::vector<double> x, y;
};

/// A dashed line across the chart, e.g. chance.
struct ReferenceLine {
  std::string label;
  double value = 0;
};

struct LineChart {
  std::string title;  ///< read out by screen readers
  std::string x_label, y_label;
  std::vector<Series> series;
  std::vector<ReferenceLine> references;
  bool log_x = false;
  double y_min = 0, y_max = 1;  ///< widened if a value lies outside
};

std::string line_chart(const LineChart& chart);

struct BarSeries {
  std::string name;
  std::vector<double> values;  ///< one a group; not finite: no bar
};

/// Horizontal bars from zero, so that long names of groups have room; each ends in its value.
struct BarChart {
  std::string title, x_label;
  std::vector<std::string> groups;
  std::vector<BarSeries> series;
  std::vector<ReferenceLine> references;  ///< values on the same axis
  double x_max = 0;                       ///< widened to the largest value
  bool percent = false;                   ///< values are shares, written as percent
};

std::string bar_chart(const BarChart& chart);

}  // namespace tempo::audit
