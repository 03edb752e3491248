/// Evidence of no TEE at all: signed by a key that its maker threw away. It shows only that nobody altered it since,
/// and is there so that everything else runs without hardware. Nothing accepts it but a policy that names it.
#pragma once

#include "attest/types.h"

namespace tempo::attest {

/// docs/formats/evidence.md has the layout.
struct InsecureSimulatedReport {
  Digest32 measurement{};
  ReportData report_data{};
};

[[nodiscard]] bool is_insecure_simulated_report(ByteView bytes);
/// Signs with a key that is made for it and wiped.
Bytes make_insecure_simulated_report(const InsecureSimulatedReport& report);
/// @throws InputError for another layout; AttestationError if the signature is not of the key in it.
InsecureSimulatedReport open_insecure_simulated_report(ByteView bytes);

}  // namespace tempo::attest
