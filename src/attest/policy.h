/// What a client accepts. Default deny: a TEE that is not named is refused, and so is every value that its section does
/// not allow. docs/formats/policy.md has the JSON and the meaning of each field; fields here have the same names.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "attest/collateral.h"
#include "attest/evidence.h"

namespace tempo::attest {

constexpr size_t kMaxPolicyBytes = 1 << 20;

/// Values of which one must be reported. Empty: the value must be all zero. `any`: not looked at.
template <typename Value>
struct Allowed {
  std::vector<Value> values;
  bool any = false;
  bool operator==(const Allowed&) const = default;
};

/// Security versions of AMD's firmware. A component below its minimum is refused.
struct SnpTcbMinimum {
  uint8_t fmc = 0;  // Turin and later
  uint8_t bootloader = 0, tee = 0, snp = 0, microcode = 0;
  bool operator==(const SnpTcbMinimum&) const = default;
};

struct SnpPolicy {
  std::vector<Digest48> measurements;  // at least one
  SnpTcbMinimum minimum_reported_tcb, minimum_committed_tcb, minimum_launch_tcb;
  std::set<std::string> products = {};  // "milan", "genoa", "turin"; at least one
  uint32_t maximum_vmpl = 0;
  Allowed<Digest32> host_data;
  bool allow_vlek = false;                      // a cloud's key instead of the chip's
  bool allow_provisional_firmware = false;      // current TCB or version above the committed one
  std::set<std::string> allowed_guest_policy;   // "smt", "migration-agent", "cxl"
  std::set<std::string> required_guest_policy;  // "single-socket", "aes-256-xts", "rapl-disabled", ...
  std::set<std::string> required_platform;      // "ecc", "tsme", "alias-check", "smt-disabled", ...
  uint64_t required_mitigations = 0;            // bits of both mitigation vectors (report version 5)
  uint32_t minimum_guest_svn = 0;
  std::vector<Digest48> id_keys, author_keys;   // digests of keys of the ID block; empty: not looked at
  std::vector<Digest16> family_ids, image_ids;  // empty: not looked at
  std::vector<Digest64> chip_ids;               // empty: any machine
  bool require_crl = false;                     // AMD's revocation list must be at hand
  bool operator==(const SnpPolicy&) const = default;
};

/// What SGX and TDX share: Intel's statement on the platform.
struct IntelTcbPolicy {
  std::set<std::string> tcb_statuses = {"UpToDate"};
  std::set<std::string> advisories;  // those that may apply; any other is refused
  uint32_t minimum_tcb_evaluation_data_number = 0;
  uint16_t minimum_pce_svn = 0, minimum_qe_svn = 0;
  Digest16 minimum_tcb_components{};            // of the PCK certificate, each
  std::vector<Digest16> platform_instance_ids;  // PIID; empty: any machine
  bool operator==(const IntelTcbPolicy&) const = default;
};

struct TdxPolicy {
  std::vector<Digest48> mrtd;  // at least one
  std::array<Allowed<Digest48>, 4> rtmr;
  Allowed<Digest48> mr_config_id, mr_owner, mr_owner_config, mr_service_td;
  std::vector<Digest48> mr_seam;             // empty: whatever Intel's TCB info vouches for
  std::set<std::string> allowed_attributes;  // "sept-ve", "migratable", "pks", "key-locker", "perfmon", ...
  Digest16 minimum_tee_tcb_svn{};            // each component
  IntelTcbPolicy tcb;
  bool operator==(const TdxPolicy&) const = default;
};

struct SgxSigner {
  Digest32 mrsigner{};
  uint16_t product_id = 0, minimum_svn = 0;
  bool operator==(const SgxSigner&) const = default;
};

struct SgxPolicy {
  std::vector<Digest32> mrenclave;           // one of these,
  std::vector<SgxSigner> signers;            // or one of these; at least one in all
  std::set<std::string> allowed_attributes;  // "provision-key", "einit-token-key", "kss", "aex-notify"
  Allowed<Digest64> config_id;
  uint16_t minimum_config_svn = 0;
  IntelTcbPolicy tcb;
  bool operator==(const SgxPolicy&) const = default;
};

struct InsecureSimulatedPolicy {
  std::vector<Digest32> measurements;  // at least one
  bool operator==(const InsecureSimulatedPolicy&) const = default;
};

struct Policy {
  std::optional<SnpPolicy> sev_snp;
  std::optional<TdxPolicy> tdx;
  std::optional<SgxPolicy> sgx;
  std::optional<InsecureSimulatedPolicy> insecure_simulated;
  /// Empty: not looked at. Otherwise what the master was started with must be one of them.
  std::vector<Digest32> config_hashes;
  /// The age of signed JSON and revocation lists (but for Intel's root's), since their issue. Their own expiry counts
  /// in any case.
  std::optional<uint32_t> maximum_collateral_age_days;
  /// Whether jobs may be submitted under a protection that does not protect from workers.
  bool allow_unprotected = false;
  bool operator==(const Policy&) const = default;
};

/// @throws InputError naming the field for an unknown key, a missing or a malformed value.
Policy parse_policy(ByteView bytes, const std::string& source);
/// Indented, to be read and edited.
std::string to_json(const Policy& policy);

/// A policy that accepts this evidence and nothing weaker: for `tempo policy init`. Signatures, chains and collateral
/// are verified first, as `appraise` does. Any machine of the kind is accepted.
/// @throws AttestationError if they fail, or for evidence that no policy accepts, e.g. debug.
Policy policy_from(const Evidence& evidence, const Collateral& collateral, UtcTime now);

}  // namespace tempo::attest
