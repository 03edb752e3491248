// Any bytes are refused with an InputError, or are evidence that is the same when it is written and read again. Host's
// certificate tables and simulated reports are read here, too.
#include <cstdlib>

#include "attest/crypto/json.h"
#include "attest/evidence.h"
#include "attest/simulated.h"
#include "attest/source/sources.h"
#include "tempo/error.h"

using namespace tempo::attest;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  try {
    if (parse_certificate_table(input).size() > kMaxCertificates) std::abort();
  } catch (const tempo::InputError&) {
  }
  try {
    open_insecure_simulated_report(input);
  } catch (const tempo::InputError&) {
  } catch (const tempo::AttestationError&) {
  }
  Evidence evidence;
  try {
    evidence = parse_evidence(input, "fuzz");
  } catch (const tempo::InputError&) {
    return 0;
  }
  if (parse_evidence(as_view(to_json(evidence)), "again") != evidence) std::abort();
  return 0;
}
