/// Any bytes are refused with an InputError, or are a quote whose parts lie within them; and nothing made here is
/// accepted.
#pragma once

#include <algorithm>
#include <cstdlib>

#include "attest/appraisal.h"
#include "attest/crypto/certificates.h"
#include "attest/intel/pck.h"
#include "attest/intel/quote.h"
#include "tempo/error.h"

namespace tempo::attest {

/// What else is read of a quote before any of it is trusted.
inline void read_chain(const Quote& quote) {
  for (const Bytes& der : read_pem(quote.pck_chain, 6, "chain").certificates) try {
      read_pck(parse_certificate(der, "chain").get());
    } catch (const tempo::AttestationError&) {
    }
}

inline void fuzz_quote(ByteView input, Tee tee) {
  try {
    const Quote quote = parse_quote(input);
    if (quote.is_tdx() == (quote.version == 3)) std::abort();
    if (!std::equal(quote.signed_part.begin(), quote.signed_part.end(), input.begin())) std::abort();
    if (quote.signed_part.size() + quote.pck_chain.size() + quote.qe_auth_data.size() > input.size()) std::abort();
    read_chain(quote);
  } catch (const tempo::InputError&) {
  }
  Policy policy;
  policy.tdx.emplace();
  policy.sgx.emplace();
  const Evidence evidence{tee, Bytes(input.begin(), input.end()), {}, {}};
  if (appraise(evidence, {}, policy, {}, nullptr).accepted) std::abort();
}

}  // namespace tempo::attest
