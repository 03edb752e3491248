/// What a verifier needs besides the evidence, fetched from the vendors beforehand: certificates, revocation lists and
/// signed statements on which firmware is current. Nothing here is fetched from a network.
#pragma once

#include <string>
#include <vector>

#include "attest/types.h"

namespace tempo::attest {

constexpr size_t kMaxCollateralBytes = 4 << 20;

/// JSON that a vendor signed: the very bytes that were signed, and r, s of ECDSA P-256.
struct SignedJson {
  std::string text;
  Digest64 signature{};
  bool operator==(const SignedJson&) const = default;
};

/// Not verified yet: `appraise` verifies what it uses, and refuses what is missing. Several bundles can be merged, so
/// that one file serves several machines.
struct Collateral {
  /// DER. Intel: the chains of TCB info, QE identity and the PCK CRL. AMD: VCEK, VLEK, ASK. The roots among them are
  /// not trusted for being here.
  std::vector<Bytes> certificates;
  /// DER.
  std::vector<Bytes> revocation_lists;
  std::vector<SignedJson> tcb_infos, qe_identities;

  void merge(Collateral other);
};

/// Reads the JSON form (docs/formats/evidence.md), answers of Intel's provisioning service as they come
/// ({"tcbInfo":...,"signature":...}), certificates and revocation lists as PEM or DER. @param source names the bytes in
/// messages. @throws InputError for anything else, and over the caps.
Collateral parse_collateral(ByteView bytes, const std::string& source);

}  // namespace tempo::attest
