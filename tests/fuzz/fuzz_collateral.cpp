// Any bytes are refused with an InputError, or are collateral of which each part parses or is refused, too.
#include <cstdlib>

#include "attest/collateral.h"
#include "attest/crypto/certificates.h"
#include "attest/intel/tcb_info.h"
#include "attest/snp/endorsement.h"
#include "tempo/error.h"

using namespace tempo::attest;

namespace {

template <typename Read>
void read(const Read& reader) {
  try {
    reader();
  } catch (const tempo::InputError&) {
  } catch (const tempo::AttestationError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  read([&] { parse_tcb_info(text); });  // the statements themselves, without what is around them
  read([&] { parse_qe_identity(text); });
  read([&] {
    const Collateral collateral = parse_collateral(input, "fuzz");
    for (const SignedJson& item : collateral.tcb_infos) {
      if (item.text.size() > size) std::abort();
      read([&] { parse_tcb_info(item.text); });
    }
    for (const SignedJson& item : collateral.qe_identities) read([&] { parse_qe_identity(item.text); });
    for (const Bytes& der : collateral.certificates)
      read([&] {
        const UniqueX509 certificate = parse_certificate(der, "fuzz");
        read([&] { read_pck(certificate.get()); });
        read([&] { read_endorsement(certificate.get()); });
      });
    for (const Bytes& der : collateral.revocation_lists) read([&] { facts_of(parse_crl(der, "fuzz").get()); });
  });
  return 0;
}
