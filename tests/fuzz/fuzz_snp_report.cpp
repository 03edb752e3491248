// Any bytes are refused with an InputError, or are a report that is signed over its first 672 bytes, as they are; and
// no signature of AMD's is found on what was made here.
#include <algorithm>
#include <cstdlib>

#include "attest/appraisal.h"
#include "attest/snp/report.h"
#include "tempo/error.h"

using namespace tempo::attest;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  try {
    const SnpReport report = parse_snp_report(input);
    if (!std::equal(report.signed_part.begin(), report.signed_part.end(), input.begin())) std::abort();
    for (const bool has_fmc : {false, true}) try {
        decode_tcb(report.reported_tcb, has_fmc, "reported");
      } catch (const tempo::AttestationError&) {
      }
  } catch (const tempo::InputError&) {
  }
  Policy policy;
  policy.sev_snp.emplace();
  const Evidence evidence{Tee::kSevSnp, Bytes(input.begin(), input.end()), {}, {}};
  if (appraise(evidence, {}, policy, {}, nullptr).accepted) std::abort();
  return 0;
}
