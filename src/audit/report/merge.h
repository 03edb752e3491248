/// Several audits of one victim side by side.
#pragma once

#include <string>

#include "audit/results.h"

namespace tempo::audit {

/// Adds the settings of `more`, and all that was found under them. Figures without a setting (bounds of the surrogates,
/// tampering) are added where `into` has none of that name.
/// @throws InputError if a setting is there already or the victim is another model; `source` names `more`.
void append(AuditResults& into, AuditResults more, const std::string& source);

}  // namespace tempo::audit
