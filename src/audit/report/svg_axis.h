/// Scales, ticks and text of charts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tempo::audit::svg {

/// Maps values to pixels.
class Axis {
 public:
  /// @param low,high  of the values; made a little wider if they are equal, and positive if `log`.
  Axis(double low, double high, double pixel_low, double pixel_high, bool log);

  [[nodiscard]] bool can_place(double value) const;  ///< finite, and above zero on a log axis
  [[nodiscard]] double at(double value) const;
  [[nodiscard]] std::vector<double> ticks() const;  ///< round values inside the range, about five

 private:
  double low_, high_, pixel_low_, pixel_high_;
  bool log_;
};

std::string tick_label(double value);

/// Colour, marker and dash of a series: they repeat only together after many.
std::string_view colour(size_t series);
std::string dash(size_t series);  ///< an attribute, or empty
std::string marker(size_t series, double x, double y);

enum class Anchor { kStart, kMiddle, kEnd };
/// Escapes `text`.
std::string text(double x, double y, Anchor anchor, std::string_view text, double size = 12, double opacity = 1);
/// In the page's own colour.
std::string line(double x1, double y1, double x2, double y2, double opacity, bool dashed = false);

/// Cut to `most` characters (not bytes), the last three dots.
std::string shortened(const std::string& text, size_t most);
/// Width in pixels, roughly.
double width_of(const std::string& text, double size = 12);

struct LegendEntry {
  std::string name;
  size_t series;
};
struct Legend {
  std::string svg;
  double height = 0;
};
/// Entries in lines, wrapped at `width`; `bars` draws squares instead of lines with markers.
Legend legend(const std::vector<LegendEntry>& entries, double x, double y, double width, bool bars);

/// The element around it all, with a title for screen readers.
std::string document(double width, double height, const std::string& title, const std::string& content);

}  // namespace tempo::audit::svg
