/// The blob that Azure's paravisor keeps for its guest: a hardware report, and claims that its report_data binds.
#pragma once

#include "attest/evidence.h"

namespace tempo::attest {

struct HclBlob {
  Tee tee = Tee::kSevSnp;
  /// SEV-SNP: the report. TDX: a TDREPORT, which only the machine itself can turn into a quote.
  ByteView report;
  ByteView claims;
};

[[nodiscard]] bool is_hcl_blob(ByteView bytes);
/// Views into `bytes`. @throws InputError.
HclBlob parse_hcl_blob(ByteView bytes, const std::string& source);

}  // namespace tempo::attest
