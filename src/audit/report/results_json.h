/// The file between `tempo-audit run` and `tempo-audit report`.
#pragma once

#include <string>

#include "audit/results.h"

namespace tempo::audit {

/// Indented JSON with the names of the fields of results.h. Numbers that are not finite become null, text that is not
/// UTF-8 is mended. What is finite comes back bit for bit.
std::string to_json(const AuditResults& results);

/// @param source  where `text` comes from, for messages.
/// Unknown fields are ignored; null reads as 0 for a number and as absent for `steps_to_win`.
/// @throws InputError in one line if `text` is not JSON, not of an audit, lacks a field or has one of a wrong type,
///         names a start other than secret or public, repeats a setting or has several defaults.
AuditResults results_from_json(const std::string& text, const std::string& source);

}  // namespace tempo::audit
