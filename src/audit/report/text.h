/// How names and numbers are written in a report: escaped for where they stand, and short.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "audit/results.h"
#include "page/html_text.h"

namespace tempo::audit {

using page::escape_html;

/// For running text and table cells of Markdown; line breaks and other control characters become spaces.
std::string escape_markdown(std::string_view text);

/// Markdown code that also holds inside a table cell.
std::string markdown_code(std::string_view text);

/// Two decimals: "0.31". "not finite" for what is not a number.
std::string format_score(double value);

/// Two significant figures where the number is small, whole where it is large: "0.0042", "3.1", "1,234", "2.1e+07".
std::string format_compact(double value);

/// A share as percent with one decimal: "41.9%".
std::string format_percent(double share);

/// Points between two shares, signed: "+3.1 points".
std::string format_points(double points);

/// Why a report has no surrogate models.
std::string why_no_surrogates(const AuditResults& results);

/// "1,234,567".
std::string format_count(int64_t count);

/// "1 layer", "3 layers".
std::string count_of(int64_t count, std::string_view noun);

}  // namespace tempo::audit
