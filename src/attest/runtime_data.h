/// Claims beside a report that the report binds.
#pragma once

#include "attest/types.h"

namespace tempo::attest {

/// Nothing to check if there are none. @throws Refused unless report_data is SHA-256 of them, then zeros.
void check_runtime_data(ByteView runtime_data, const ReportData& report_data, std::string_view tee);

}  // namespace tempo::attest
