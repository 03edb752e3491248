/// The report as one HTML page for someone who decides whether to trust this: no script, nothing loaded from elsewhere.
#pragma once

#include <span>
#include <string>

#include "audit/attack.h"
#include "audit/results.h"

namespace tempo::audit {

/// @param attacks  names, questions, needs and sources, `attacks()` in a program.
std::string to_html(const AuditResults& results, std::span<const Attack> attacks);

}  // namespace tempo::audit
