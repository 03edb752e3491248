#include "attest/synthetic_intel.h"

#include <fmt/format.h>

namespace tempo::testing {

using namespace tempo::attest;

namespace {

constexpr Curve kCurve = Curve::kP256WithSha256;
constexpr const char* kSgx = "1.2.840.113741.1.13.1";
const std::string kZeros96(96, '0');

Bytes field(const std::string& oid, const Bytes& value) { return der(0x30, joined({der_object(oid), value})); }

Bytes new_body(const QuoteSpec& spec) {
  if (spec.version == 3) {
    Bytes body(384);
    put_little_endian(body, kSgxAttributes, 5, 8);
    put(body, kSgxMrenclave, Bytes(32, std::byte{0x22}));
    put(body, kSgxMrsigner, Bytes(32, std::byte{0x44}));
    put_little_endian(body, kSgxProductId, 3, 2);
    put_little_endian(body, kSgxSvn, 7, 2);
    put(body, kSgxReportData, Bytes(64, std::byte{0x11}));
    return body;
  }
  Bytes body(spec.version == 4 || spec.body_type == 2 ? 584 : 648);
  for (const size_t i : {0, 1, 2}) body[kTdSvn + i] = std::byte{i == 1 ? uint8_t{1} : uint8_t{5}};
  put_little_endian(body, kTdAttributes, uint64_t{1} << 28U, 8);
  put(body, kTdMrtd, Bytes(48, std::byte{0x22}));
  put(body, kTdReportData, Bytes(64, std::byte{0x11}));
  return body;
}

Bytes new_header(const QuoteSpec& spec) {
  Bytes header;
  append_little_endian(header, spec.version, 2);
  append_little_endian(header, 2, 2);
  append_little_endian(header, spec.version == 3 ? 0 : 0x81, 4);
  append_little_endian(header, 0, 4);
  const Bytes vendor = from_hex("939a7233f79c4ca9940a0db3957f0607", 16, "vendor");
  header.insert(header.end(), vendor.begin(), vendor.end());
  header.resize(48);
  return header;
}

Json levels(const Json& tcb, const char* status) {
  return Json::array({{{"tcb", tcb}, {"tcbDate", "2024-03-13T00:00:00Z"}, {"tcbStatus", status}}});
}

Json statement(const char* id, int version) {
  return {{"id", id},
          {"version", version},
          {"issueDate", "2025-06-15T00:00:00Z"},
          {"nextUpdate", "2025-07-15T00:00:00Z"},
          {"tcbEvaluationDataNumber", 17}};
}

Json components(std::initializer_list<int> svns) {
  Json list = Json::array();
  for (const int svn : svns) list.push_back({{"svn", svn}});
  while (list.size() < 16) list.push_back({{"svn", 0}});
  return list;
}

}  // namespace

Bytes pck_extension(const PckSpec& spec) {
  const std::string sgx = kSgx;
  Bytes tcb;
  for (size_t i = 0; i < 16; ++i)
    tcb = joined({tcb, field(fmt::format("{}.2.{}", sgx, i + 1), der_integer(spec.components[i]))});
  Bytes cpu_svn;
  for (const uint8_t svn : spec.components) cpu_svn.push_back(std::byte{svn});
  tcb = joined({tcb, field(sgx + ".2.17", der_integer(spec.pce_svn)), field(sgx + ".2.18", der(4, cpu_svn))});
  Bytes all = joined({field(sgx + ".1", der(4, Bytes(16, std::byte{1}))), field(sgx + ".2", der(0x30, tcb)),
                      field(sgx + ".3", der(4, spec.pce_id)), field(sgx + ".4", der(4, spec.fmspc)),
                      field(sgx + ".5", der(10, Bytes(1, std::byte{0})))});
  if (spec.platform_instance_id) all = joined({all, field(sgx + ".6", der(4, *spec.platform_instance_id))});
  return der(0x30, all);
}

SyntheticIntel::SyntheticIntel()
    : root("Intel SGX Root CA", kCurve),
      platform_ca("Intel SGX PCK Platform CA", kCurve),
      processor_ca("Intel SGX PCK Processor CA", kCurve),
      pck_key("Intel SGX PCK Certificate", kCurve),
      tcb_signing("Intel SGX TCB Signing", kCurve),
      attestation("attestation", kCurve),
      root_certificate(root.self_signed()),
      platform_certificate(root.certify({.name = "Intel SGX PCK Platform CA", .is_ca = true}, platform_ca.key())),
      processor_certificate(root.certify({.name = "Intel SGX PCK Processor CA", .is_ca = true}, processor_ca.key())),
      tcb_certificate(root.certify({.name = "Intel SGX TCB Signing"}, tcb_signing.key())) {}

VendorRoots SyntheticIntel::roots() const {
  VendorRoots roots;
  X509_up_ref(root_certificate.get());
  roots.intel.reset(root_certificate.get());
  return roots;
}

UniqueX509 SyntheticIntel::pck(const QuoteSpec& spec) const {
  return (spec.is_processor_ca ? processor_ca : platform_ca)
      .certify({.name = "Intel SGX PCK Certificate", .extensions = {{kSgx, pck_extension(spec.pck)}}}, pck_key.key());
}

Bytes SyntheticIntel::quote(const QuoteSpec& spec) const {
  Bytes body = new_body(spec);
  if (spec.edit) spec.edit(body);
  Bytes out = new_header(spec);
  if (spec.version == 5) {
    append_little_endian(out, spec.body_type, 2);
    append_little_endian(out, body.size(), 4);
  }
  out.insert(out.end(), body.begin(), body.end());

  const Bytes point = attestation.point(), auth(32, std::byte{0xAA});
  Bytes qe(384);
  put_little_endian(qe, kSgxAttributes, 0x15, 8);
  put(qe, kSgxMrsigner, Bytes(32, std::byte{0x8C}));
  put_little_endian(qe, kSgxProductId, spec.version == 3 ? 1 : 2, 2);
  put_little_endian(qe, kSgxSvn, 6, 2);
  put(qe, kSgxReportData, sha256(joined({point, auth})));
  if (spec.edit_qe) spec.edit_qe(qe);

  const std::string chain = to_pem(pck(spec).get()) +
                            to_pem((spec.is_processor_ca ? processor_certificate : platform_certificate).get()) +
                            to_pem(root_certificate.get());
  Bytes qe_part = joined({qe, pck_key.sign(qe)});
  append_little_endian(qe_part, auth.size(), 2);
  qe_part.insert(qe_part.end(), auth.begin(), auth.end());
  append_little_endian(qe_part, 5, 2);
  append_little_endian(qe_part, chain.size(), 4);
  const ByteView text = as_view(chain);
  qe_part.insert(qe_part.end(), text.begin(), text.end());

  Bytes signature = joined({attestation.sign(out), point});
  if (spec.version > 3) {
    append_little_endian(signature, 6, 2);
    append_little_endian(signature, qe_part.size(), 4);
  }
  signature.insert(signature.end(), qe_part.begin(), qe_part.end());
  append_little_endian(out, signature.size(), 4);
  return joined({out, signature});
}

Evidence SyntheticIntel::evidence(const QuoteSpec& spec) const {
  Evidence evidence;
  evidence.tee = spec.version == 3 ? Tee::kSgx : Tee::kTdx;
  evidence.report = quote(spec);
  return evidence;
}

Json SyntheticIntel::tcb_info(bool is_tdx) {
  Json info = statement(is_tdx ? "TDX" : "SGX", 3);
  info.update({{"fmspc", "0F0F0F0F0F0F"}, {"pceId", "0000"}, {"tcbType", 0}});
  Json tcb = {{"sgxtcbcomponents", components({5, 5, 5})}, {"pcesvn", 11}};
  Json old = {{"sgxtcbcomponents", components({3})}, {"pcesvn", 5}};
  if (is_tdx) {
    const Json module = {
        {"mrsigner", kZeros96}, {"attributes", "0000000000000000"}, {"attributesMask", "FFFFFFFFFFFFFFFF"}};
    info["tdxModule"] = module;
    Json identity = module;
    identity["id"] = "TDX_01";
    identity["tcbLevels"] = levels({{"isvsvn", 4}}, "UpToDate");
    identity["tcbLevels"].push_back(levels({{"isvsvn", 2}}, "OutOfDate")[0]);
    info["tdxModuleIdentities"] = Json::array({identity});
    tcb["tdxtcbcomponents"] = components({4, 1, 5});
    old["tdxtcbcomponents"] = components({2, 1, 3});
  }
  info["tcbLevels"] = levels(tcb, "UpToDate");
  info["tcbLevels"].push_back(levels(old, "OutOfDate")[0]);
  info["tcbLevels"][1]["advisoryIDs"] = {"INTEL-SA-00001"};
  return info;
}

Json SyntheticIntel::qe_identity(bool is_tdx) {
  Json identity = statement(is_tdx ? "TD_QE" : "QE", 2);
  identity.update({{"miscselect", "00000000"},
                   {"miscselectMask", "FFFFFFFF"},
                   {"attributes", "11000000000000000000000000000000"},
                   {"attributesMask", "FBFFFFFFFFFFFFFF0000000000000000"},
                   {"mrsigner", to_hex(Bytes(32, std::byte{0x8C}))},
                   {"isvprodid", is_tdx ? 2 : 1},
                   {"tcbLevels", levels({{"isvsvn", 6}}, "UpToDate")}});
  identity["tcbLevels"].push_back(levels({{"isvsvn", 4}}, "OutOfDate")[0]);
  return identity;
}

SignedJson SyntheticIntel::signed_json(const std::string& text) const {
  SignedJson item{text, {}};
  const Bytes signature = tcb_signing.sign(as_view(text));
  std::copy(signature.begin(), signature.end(), item.signature.begin());
  return item;
}

Collateral SyntheticIntel::collateral_with(const Json& info, const Json& identity) const {
  Collateral collateral;
  collateral.certificates = {to_der(tcb_certificate.get()), to_der(root_certificate.get())};
  collateral.revocation_lists = {root.revocation_list(), platform_ca.revocation_list(), processor_ca.revocation_list()};
  collateral.tcb_infos = {signed_json(info.dump())};
  collateral.qe_identities = {signed_json(identity.dump())};
  return collateral;
}

Collateral SyntheticIntel::collateral() const {
  Collateral all = collateral_with(tcb_info(true), qe_identity(true));
  const Collateral sgx = collateral_with(tcb_info(false), qe_identity(false));
  all.tcb_infos.push_back(sgx.tcb_infos[0]);
  all.qe_identities.push_back(sgx.qe_identities[0]);
  return all;
}

}  // namespace tempo::testing
