#include "attest/runtime_data.h"

#include <algorithm>

#include "attest/crypto/openssl.h"
#include "attest/verdict.h"

namespace tempo::attest {

void check_runtime_data(ByteView runtime_data, const ReportData& report_data, std::string_view tee) {
  if (runtime_data.empty()) return;
  ReportData expected{};
  const Digest32 hash = sha256(runtime_data);
  std::copy(hash.begin(), hash.end(), expected.begin());
  demand(report_data == expected, Aspect::kConfiguration, "{}: report_data is not the hash of the runtime data", tee);
}

}  // namespace tempo::attest
