/// The verdict on a piece of evidence.
#pragma once

#include <optional>
#include <string>

#include "attest/collateral.h"
#include "attest/evidence.h"
#include "attest/policy.h"
#include "attest/seen_collateral.h"
#include "attest/types.h"

namespace tempo::attest {

/// What the verifier knows from elsewhere.
struct Expected {
  /// What the evidence must be over. Absent: not compared, and the evidence may be a replay: only for looking at
  /// evidence.
  std::optional<ReportData> report_data;
  /// What went into `report_data` as config hash. Must be there if the policy lists any.
  std::optional<Digest32> config_hash;
  /// All expiry dates are compared with it.
  UtcTime now{};
};

struct Appraisal {
  bool accepted = false;
  /// Empty if accepted; else the first check that failed, in one line.
  std::string reason;
  /// EAR-shaped (draft-ietf-rats-ear): docs/formats/evidence.md. Claims that were read but not verified are marked so.
  std::string ear_json;
  Tee tee = Tee::kInsecureSimulated;
  /// Hexadecimal: SEV-SNP MEASUREMENT, MRTD, MRENCLAVE. Empty if it was not read.
  std::string measurement;
  /// Hexadecimal: chip id, PIID. Empty where the platform hides it.
  std::string machine;
};

/// Checks evidence from the vendor's pinned root down to every field of the policy. Fails closed; does not throw for
/// what the evidence or the collateral hold. @param seen may be null; else older collateral than it remembers is
/// refused, and what an accepted appraisal used is remembered (saving it is the caller's). Thread-safe but for `seen`.
Appraisal appraise(const Evidence& evidence, const Collateral& collateral, const Policy& policy,
                   const Expected& expected, SeenCollateral* seen);

/// @throws AttestationError with the reason.
void require_accepted(const Appraisal& appraisal);

}  // namespace tempo::attest
