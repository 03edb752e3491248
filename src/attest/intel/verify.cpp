#include "attest/intel/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "attest/crypto/json.h"
#include "attest/verdict.h"
#include "base/byte_reader.h"

namespace tempo::attest {
namespace {

constexpr size_t kMaxChain = 6;
constexpr std::string_view kRootCa = "Intel SGX Root CA", kPlatformCa = "Intel SGX PCK Platform CA",
                           kProcessorCa = "Intel SGX PCK Processor CA", kPck = "Intel SGX PCK Certificate",
                           kTcbSigning = "Intel SGX TCB Signing";

const char* tee_of(const Quote& quote) { return quote.is_tdx() ? "tdx" : "sgx"; }

bool verifies(EVP_PKEY* key, ByteView message, const Digest64& signature) {
  const ByteView numbers(signature);
  return key != nullptr && ecdsa_verifies(key, Curve::kP256WithSha256, message, numbers.first(32), numbers.subspan(32));
}

std::vector<X509*> borrow(const std::vector<UniqueX509>& certificates) {
  std::vector<X509*> borrowed;
  for (const UniqueX509& certificate : certificates) borrowed.push_back(certificate.get());
  return borrowed;
}

std::vector<UniqueX509> parse_chain(const Quote& quote) {
  std::vector<UniqueX509> chain;
  for (const Bytes& der : read_pem(quote.pck_chain, kMaxChain, "quote: PCK chain").certificates)
    chain.push_back(parse_certificate(der, "quote: PCK chain"));
  demand(!chain.empty(), kHardware, "{}: no certificate in the quote", tee_of(quote));
  return chain;
}

/// The quoting enclave's report holds SHA-256(attestation key | authentication data), then zeros.
void check_binding(const Quote& quote) {
  Bytes bound(quote.attestation_key.begin(), quote.attestation_key.end());
  bound.insert(bound.end(), quote.qe_auth_data.begin(), quote.qe_auth_data.end());
  ReportData expected{};
  const Digest32 hash = sha256(bound);
  std::copy(hash.begin(), hash.end(), expected.begin());
  demand(quote.qe_report.report_data == expected, kHardware,
         "{}: the quoting enclave's report does not bind the attestation key", tee_of(quote));
}

/// The newest list of each issuer, by its own word: older ones are not asked.
class RevocationLists {
 public:
  explicit RevocationLists(const Collateral& collateral) {
    for (const Bytes& der : collateral.revocation_lists) {
      UniqueCrl crl = parse_crl(der, "collateral: revocation list");
      CrlFacts facts = facts_of(crl.get());
      Entry& entry = lists_[facts.issuer];
      if (entry.crl == nullptr || entry.facts.issued < facts.issued) entry = {std::move(crl), std::move(facts)};
    }
  }
  [[nodiscard]] std::vector<X509_CRL*> all() const {
    std::vector<X509_CRL*> borrowed;
    for (const auto& [issuer, entry] : lists_) borrowed.push_back(entry.crl.get());
    return borrowed;
  }
  /// Takes an issuer whose list has been verified.
  [[nodiscard]] const CrlFacts& facts(std::string_view issuer) const { return lists_.find(issuer)->second.facts; }

 private:
  struct Entry {
    UniqueCrl crl;
    CrlFacts facts;
  };
  std::map<std::string, Entry, std::less<>> lists_;
};

/// The leaf up to Intel's root, through the issuers that must be on the way.
std::vector<UniqueX509> verify_intel_chain(X509* leaf, const std::vector<X509*>& others, const VendorRoots& roots,
                                           const RevocationLists* lists, UtcTime now, const std::string& what) {
  return verify_chain({.leaf = leaf,
                       .intermediates = others,
                       .root = roots.intel.get(),
                       .revocation_lists = lists == nullptr ? std::vector<X509_CRL*>() : lists->all(),
                       .check_revocation = lists != nullptr,
                       .now = now},
                      what);
}

/// @returns the name of the authority that issued the PCK certificate.
std::string verify_pck(const Quote& quote, const std::vector<UniqueX509>& chain, const VendorRoots& roots,
                       const RevocationLists* lists, UtcTime now) {
  const std::string what = fmt::format("{}: PCK chain", tee_of(quote));
  const auto path = verify_intel_chain(chain.front().get(), borrow(chain), roots, lists, now, what);
  const std::string authority = path.size() == 3 ? subject_of(path[1].get()) : "";
  demand(authority == kPlatformCa || authority == kProcessorCa, kHardware, "{}: not issued by a PCK CA", what);
  demand(subject_of(path[0].get()) == kPck, kHardware, "{}: its leaf is no PCK certificate", what);
  return authority;
}

/// The newest statement that `fits`.
template <typename Statement, typename Parse, typename Fits>
std::pair<const SignedJson*, Statement> choose(const std::vector<SignedJson>& items, const Parse& parse,
                                               const Fits& fits) {
  std::pair<const SignedJson*, Statement> best{nullptr, {}};
  for (const SignedJson& item : items) {
    Statement statement = parse(item.text);
    const auto rank = [](const Statement& s) { return std::tie(s.evaluation_number, s.issued); };
    if (fits(statement) && (best.first == nullptr || rank(best.second) < rank(statement)))
      best = {&item, std::move(statement)};
  }
  return best;
}

struct Verifier {
  const std::vector<UniqueX509>& certificates;
  const VendorRoots& roots;
  const RevocationLists& lists;
  UtcTime now;

  /// Signature over the very bytes, by a certificate for it, and the dates.
  void check(const SignedJson& item, const StatementHead& head, const std::string& what) const {
    const auto signer = std::find_if(certificates.begin(), certificates.end(), [&](const UniqueX509& certificate) {
      return subject_of(certificate.get()) == kTcbSigning && signs(certificate.get(), item);
    });
    demand(signer != certificates.end(), kHardware,
           "{}: its signature does not verify with any TCB signing certificate", what);
    const auto path = verify_intel_chain(signer->get(), {}, roots, &lists, now, what + ": chain");
    demand(path.size() == 2, kHardware, "{}: chain is not from the root", what);
    demand(head.issued <= now && now <= head.next, kHardware, "{}: valid from {} to {}, it is {}", what,
           to_text(head.issued), to_text(head.next), to_text(now));
  }
};

std::vector<UniqueX509> parse_certificates(const Collateral& collateral) {
  std::vector<UniqueX509> parsed;
  for (const Bytes& der : collateral.certificates) parsed.push_back(parse_certificate(der, "collateral: certificate"));
  return parsed;
}

}  // namespace

bool signs(const X509* certificate, const SignedJson& statement) {
  return verifies(X509_get0_pubkey(certificate), as_view(statement.text), statement.signature);
}

QuoteVerified verify_quote(const Quote& quote, const VendorRoots& roots, UtcTime now) {
  const char* const tee = tee_of(quote);
  const UniqueKey key = p256_key(quote.attestation_key);
  demand(verifies(key.get(), quote.signed_part, quote.signature), kHardware,
         "{}: the quote's signature does not verify", tee);
  check_binding(quote);
  QuoteVerified verified;
  verified.pck_chain = parse_chain(quote);
  const X509* leaf = verified.pck_chain.front().get();
  demand(verifies(X509_get0_pubkey(leaf), quote.qe_report_bytes, quote.qe_signature), kHardware,
         "{}: the quoting enclave's report is not signed by the PCK key", tee);
  verify_pck(quote, verified.pck_chain, roots, nullptr, now);
  verified.pck = read_pck(leaf);
  return verified;
}

PlatformVerified verify_platform(const Quote& quote, const QuoteVerified& verified, const Collateral& collateral,
                                 const VendorRoots& roots, UtcTime now) {
  const std::string tee = tee_of(quote);
  const RevocationLists lists(collateral);
  const std::string authority = verify_pck(quote, verified.pck_chain, roots, &lists, now);

  const auto [info_item, info] = choose<TcbInfo>(collateral.tcb_infos, parse_tcb_info, [&](const TcbInfo& candidate) {
    return candidate.fmspc == verified.pck.fmspc && candidate.id == (quote.is_tdx() ? "TDX" : "SGX");
  });
  demand(info_item != nullptr, kHardware, "{}: no TCB info for platform {} in the collateral", tee,
         to_hex(verified.pck.fmspc));
  const auto [identity_item, identity] = choose<QeIdentity>(
      collateral.qe_identities, parse_qe_identity,
      [&](const QeIdentity& candidate) { return candidate.id == (quote.is_tdx() ? "TD_QE" : "QE"); });
  demand(identity_item != nullptr, kHardware, "{}: no QE identity in the collateral", tee);
  const std::vector<UniqueX509> certificates = parse_certificates(collateral);
  const Verifier verifier{certificates, roots, lists, now};
  verifier.check(*info_item, info, tee + ": TCB info");
  verifier.check(*identity_item, identity, tee + ": QE identity");

  PlatformVerified platform;
  platform.tcb = match_tcb(info, identity, verified.pck, quote.qe_report, quote.is_tdx() ? &quote.td() : nullptr);
  platform.evaluation_number = std::min(info.evaluation_number, identity.evaluation_number);
  const CrlFacts& root_list = lists.facts(kRootCa);
  const CrlFacts& pck_list = lists.facts(authority);
  platform.issued = {
      {"TCB info", info.issued}, {"QE identity", identity.issued}, {"PCK revocation list", pck_list.issued}};
  platform.used.remember(fmt::format("tcb-info {} {}", tee, to_hex(info.fmspc)), {info.evaluation_number, info.issued});
  platform.used.remember("qe-identity " + identity.id, {identity.evaluation_number, identity.issued});
  platform.used.remember("crl " + root_list.issuer, {root_list.number, root_list.issued});
  platform.used.remember("crl " + pck_list.issuer, {pck_list.number, pck_list.issued});
  return platform;
}

}  // namespace tempo::attest
