/// The report as Markdown, for a repository or a terminal.
#pragma once

#include <span>
#include <string>

#include "audit/attack.h"
#include "audit/results.h"

namespace tempo::audit {

/// @param attacks  names of the attacks, `attacks()` in a program; one that was not run appears as "not run".
std::string to_markdown(const AuditResults& results, std::span<const Attack> attacks);

}  // namespace tempo::audit
