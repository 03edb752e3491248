#include "attest/collateral.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>

#include "attest/crypto/certificates.h"
#include "attest/crypto/json.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

constexpr size_t kMaxItems = 64, kMaxSignedJsonBytes = 256 << 10, kMaxHexCrlBytes = 2 << 20;
constexpr size_t kMaxChainBytes = 64 << 10;

template <typename Item>
void append(std::vector<Item>& to, std::vector<Item>&& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

void add_pem(Collateral& collateral, std::string_view text, const std::string& what) {
  PemContent content = read_pem(text, kMaxItems, what);
  if (content.certificates.empty() && content.revocation_lists.empty())
    throw InputError(fmt::format("{}: no certificate in PEM", what));
  append(collateral.certificates, std::move(content.certificates));
  append(collateral.revocation_lists, std::move(content.revocation_lists));
}

void add_hex_crl(Collateral& collateral, const std::string& hex, const std::string& what) {
  collateral.revocation_lists.push_back(from_hex(hex, hex.size() / 2, what));
}

Digest64 signature_of(JsonFields& fields, const char* field) {
  return digest_from_hex<64>(fields.text(field), fields.name(field));
}

/// An answer of Intel's provisioning service: {"tcbInfo":{...},"signature":"..."}.
void add_answer(Collateral& collateral, JsonFields& fields, std::string_view text, const char* body) {
  SignedJson item{std::string(raw_value(text, body, fields.what())), signature_of(fields, "signature")};
  if (item.text.size() > kMaxSignedJsonBytes)
    throw InputError(fmt::format("{}: more than {} bytes", fields.name(body), kMaxSignedJsonBytes));
  auto& items = std::string_view(body) == "tcbInfo" ? collateral.tcb_infos : collateral.qe_identities;
  items.push_back(std::move(item));
  fields.refuse_others();
}

void add_bundle(Collateral& collateral, JsonFields& fields) {
  for (const char* chain : {"pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain",
                            "pck_certificate_chain", "certificates"})
    if (fields.find(chain) != nullptr) add_pem(collateral, fields.text(chain, kMaxChainBytes), fields.name(chain));
  for (const char* crl : {"root_ca_crl", "pck_crl"})
    if (fields.find(crl) != nullptr) add_hex_crl(collateral, fields.text(crl, kMaxHexCrlBytes), fields.name(crl));
  if (fields.find("revocation_lists") != nullptr)
    for (const Json& item : fields.array("revocation_lists", kMaxItems)) {
      if (!item.is_string()) throw InputError(fmt::format("{}: expected texts", fields.name("revocation_lists")));
      add_hex_crl(collateral, item.get_ref<const std::string&>(), fields.name("revocation_lists"));
    }
  if (fields.find("tcb_info") != nullptr)
    collateral.tcb_infos.push_back(
        {fields.text("tcb_info", kMaxSignedJsonBytes), signature_of(fields, "tcb_info_signature")});
  if (fields.find("qe_identity") != nullptr)
    collateral.qe_identities.push_back(
        {fields.text("qe_identity", kMaxSignedJsonBytes), signature_of(fields, "qe_identity_signature")});
  fields.refuse_others();
}

void add_json(Collateral& collateral, std::string_view text, const std::string& source) {
  const Json json = parse_json_object(text, source);
  JsonFields fields(json, source);
  for (const char* body : {"tcbInfo", "enclaveIdentity"})
    if (fields.find(body) != nullptr) return add_answer(collateral, fields, text, body);
  add_bundle(collateral, fields);
}

void add_der(Collateral& collateral, ByteView bytes, const std::string& source) {
  try {
    parse_certificate(bytes, source);
    collateral.certificates.emplace_back(bytes.begin(), bytes.end());
    return;
  } catch (const AttestationError&) {  // then it is a revocation list
  }
  try {
    parse_crl(bytes, source);
  } catch (const AttestationError&) {
    throw InputError(fmt::format("{}: neither a certificate nor a revocation list in DER", source));
  }
  collateral.revocation_lists.emplace_back(bytes.begin(), bytes.end());
}

}  // namespace

void Collateral::merge(Collateral other) {
  append(certificates, std::move(other.certificates));
  append(revocation_lists, std::move(other.revocation_lists));
  append(tcb_infos, std::move(other.tcb_infos));
  append(qe_identities, std::move(other.qe_identities));
}

Collateral parse_collateral(ByteView bytes, const std::string& source) {
  if (bytes.size() > kMaxCollateralBytes)
    throw InputError(fmt::format("{}: {} bytes, expected at most {}", source, bytes.size(), kMaxCollateralBytes));
  Collateral collateral;
  const auto first = std::find_if(bytes.begin(), bytes.end(), [](std::byte byte) { return byte > std::byte{' '}; });
  if (first != bytes.end() && *first == std::byte{'{'})
    add_json(collateral, as_text(bytes), source);
  else if (as_text(bytes).find("-----BEGIN ") != std::string_view::npos)
    add_pem(collateral, as_text(bytes), source);
  else
    add_der(collateral, bytes, source);
  return collateral;
}

}  // namespace tempo::attest
