/// Pieces of the HTML report. All of them return finished HTML, with every name escaped.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "audit/attack.h"
#include "audit/report/finding_table.h"
#include "audit/results.h"

namespace tempo::audit::html {

// Fixed text, html_text.cpp.
extern const std::string_view kHowToRead;
extern const std::string_view kLimits;

/// The file audit.css.
std::string_view audit_css();

/// A table in a box of its own that scrolls sideways; the first `names` columns are text, the rest numbers.
/// `cells` are HTML already.
std::string table(const std::vector<std::string>& heads, const std::vector<std::vector<std::string>>& rows,
                  size_t names = 1);

// html_tables.cpp
std::string settings_table(const AuditResults& results);
/// Attacks by settings, coloured by advantage. `is_default` marks the column of that name.
std::string heat_map(FindingTable found, const std::string& is_default);
std::string steps_table(const AuditResults& results);
std::string surrogates_table(const AuditResults& results);
std::string information_table(const AuditResults& results);
std::string tampering_table(const AuditResults& results);
/// Every finding, not only the worst cases.
std::string every_finding(const AuditResults& results, std::span<const Attack> attacks);

// html_charts.cpp: figures, or a line that says that nothing was measured.
std::string pooling_charts(const AuditResults& results);
std::string surrogate_charts(const AuditResults& results);
std::string cost_charts(const AuditResults& results);
std::string tampering_chart(const AuditResults& results);

}  // namespace tempo::audit::html
