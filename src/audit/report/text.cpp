#include "audit/report/text.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>

namespace tempo::audit {
namespace {

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

/// "1234567" to "1,234,567"; `digits` may have a minus sign.
std::string with_commas(const std::string& digits) {
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0 && out.back() != '-') out += ',';
    out += digits[i];
  }
  return out;
}

}  // namespace

std::string escape_markdown(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else {
      if (std::string_view("|*`\\[]").find(c) != std::string_view::npos) out += '\\';
      out += is_control(c) ? ' ' : c;
    }
  }
  return out;
}

std::string markdown_code(std::string_view text) {
  std::string out = "`";
  for (const char c : text) {
    if (c == '|') out += '\\';  // a table cell would end here even inside code
    out += is_control(c) ? ' ' : c == '`' ? '\'' : c;
  }
  if (text.empty()) out += ' ';
  return out + '`';
}

std::string format_score(double value) {
  if (!std::isfinite(value)) return "not finite";
  const std::string text = fmt::format("{:.2f}", value);
  return text == "-0.00" ? "0.00" : text;
}

std::string format_compact(double value) {
  if (!std::isfinite(value)) return "not finite";
  const double size = std::abs(value);
  if (size == 0) return "0";
  if (size >= 1e6) return fmt::format("{:.1e}", value);
  if (size >= 99.5) return with_commas(fmt::format("{:.0f}", value));
  if (size >= 9.95) return fmt::format("{:.0f}", value);
  return fmt::format("{:.2g}", value);
}

std::string format_percent(double share) {
  return std::isfinite(share) ? fmt::format("{:.1f}%", 100 * share) : "not finite";
}

std::string format_points(double points) {
  if (!std::isfinite(points)) return "not finite";
  if (std::abs(points) < 0.05) points = 0;  // no "-0.0"
  return fmt::format("{:+.1f} points", points);
}

std::string why_no_surrogates(const AuditResults& results) {
  if (results.victim.test_accuracy >= kLeastVictimAccuracy) return "Not run.";
  return fmt::format(
      "Not measured: the victim is right about {} of the test images. A copy of a victim below {} cannot "
      "be told from a guess.",
      format_percent(results.victim.test_accuracy), format_percent(kLeastVictimAccuracy));
}

std::string format_count(int64_t count) { return with_commas(fmt::format("{}", count)); }

std::string count_of(int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", format_count(count), noun, count == 1 ? "" : "s");
}

}  // namespace tempo::audit
