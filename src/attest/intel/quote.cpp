#include "attest/intel/quote.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/byte_reader.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

constexpr uint16_t kEcdsaP256 = 2, kPckChain = 5, kQeReportData = 6;
constexpr uint32_t kSgxTee = 0, kTdxTee = 0x81;
constexpr size_t kEnclaveReportBytes = 384, kTd10Bytes = 584, kTd15Bytes = 648;
constexpr size_t kMaxSignatureBytes = 32 << 10, kMaxAuthBytes = 1024, kMaxChainBytes = 24 << 10;
constexpr std::string_view kIntelVendor = "939a7233f79c4ca9940a0db3957f0607";

uint16_t read_u16(ByteReader& reader) {
  const ByteView bytes = reader.bytes(2);
  return static_cast<uint16_t>(std::to_integer<unsigned>(bytes[0]) | (std::to_integer<unsigned>(bytes[1]) << 8U));
}

template <size_t kBytes>
void read(ByteReader& reader, std::array<std::byte, kBytes>& out) {
  const ByteView bytes = reader.bytes(kBytes);
  std::copy(bytes.begin(), bytes.end(), out.begin());
}

EnclaveReport read_enclave_report(ByteReader& reader) {
  EnclaveReport report;
  read(reader, report.cpu_svn);
  report.misc_select = reader.u32();
  reader.bytes(12);
  read(reader, report.isv_ext_product_id);
  read(reader, report.attributes);
  read(reader, report.mrenclave);
  reader.bytes(32);
  read(reader, report.mrsigner);
  reader.bytes(32);
  read(reader, report.config_id);
  report.product_id = read_u16(reader);
  report.svn = read_u16(reader);
  report.config_svn = read_u16(reader);
  reader.bytes(42);
  read(reader, report.isv_family_id);
  read(reader, report.report_data);
  return report;
}

TdReport read_td_report(ByteReader& reader, bool is_tdx15) {
  TdReport report;
  read(reader, report.tee_tcb_svn);
  read(reader, report.mr_seam);
  read(reader, report.mr_signer_seam);
  report.seam_attributes = reader.u64();
  report.td_attributes = reader.u64();
  report.xfam = reader.u64();
  read(reader, report.mrtd);
  read(reader, report.mr_config_id);
  read(reader, report.mr_owner);
  read(reader, report.mr_owner_config);
  for (Digest48& rtmr : report.rtmr) read(reader, rtmr);
  read(reader, report.report_data);
  report.is_tdx15 = is_tdx15;
  if (!is_tdx15) return report;
  read(reader, report.tee_tcb_svn2);
  read(reader, report.mr_service_td);
  return report;
}

/// Version 5 says what follows; the others have one body each.
TdReport read_described_body(ByteReader& reader) {
  const uint16_t type = read_u16(reader);
  const uint32_t size = reader.u32();
  if (type != 2 && type != 3)
    throw InputError(fmt::format("quote: body of type {}, expected 2 (TDX 1.0) or 3 (TDX 1.5)", type));
  const size_t expected = type == 2 ? kTd10Bytes : kTd15Bytes;
  if (size != expected) throw InputError(fmt::format("quote: body of {} bytes, expected {}", size, expected));
  return read_td_report(reader, type == 3);
}

void read_header(ByteReader& reader, Quote& quote) {
  quote.version = read_u16(reader);
  if (quote.version < 3 || quote.version > 5)
    throw InputError(fmt::format("quote: version {}, expected 3 to 5", quote.version));
  if (const uint16_t type = read_u16(reader); type != kEcdsaP256)
    throw InputError(fmt::format("quote: attestation key of type {}, expected 2 (ECDSA P-256)", type));
  const uint32_t tee = reader.u32(), expected = quote.version == 3 ? kSgxTee : kTdxTee;
  if (tee != expected)
    throw InputError(fmt::format("quote: version {} for TEE {:#x}, expected {:#x}", quote.version, tee, expected));
  reader.bytes(4);  // version 3: security versions of QE and PCE, which are taken from what is signed; else reserved
  if (to_hex(reader.bytes(16)) != kIntelVendor) throw InputError("quote: quoting enclave is not Intel's");
  reader.bytes(20);
}

/// The quoting enclave's report, how it was signed, and the chain of the key that did.
void read_qe_part(ByteReader& reader, Quote& quote) {
  const ByteView report = reader.bytes(kEnclaveReportBytes);
  quote.qe_report_bytes.assign(report.begin(), report.end());
  ByteReader report_reader(report, "quote: QE report");
  quote.qe_report = read_enclave_report(report_reader);
  read(reader, quote.qe_signature);
  const size_t auth_size = read_u16(reader);
  if (auth_size > kMaxAuthBytes)
    throw InputError(
        fmt::format("quote: {} bytes of QE authentication data, expected at most {}", auth_size, kMaxAuthBytes));
  const ByteView auth = reader.bytes(auth_size);
  quote.qe_auth_data.assign(auth.begin(), auth.end());
  if (const uint16_t type = read_u16(reader); type != kPckChain)
    throw InputError(fmt::format("quote: certification data of type {}, expected 5 (PCK chain)", type));
  const uint32_t size = reader.u32();
  if (size > kMaxChainBytes)
    throw InputError(fmt::format("quote: PCK chain of {} bytes, expected at most {}", size, kMaxChainBytes));
  quote.pck_chain = reader.text(size);
  // Intel's quoting library counts the byte that ends its string.
  if (quote.pck_chain.ends_with('\0')) quote.pck_chain.pop_back();
}

void read_signature(ByteReader& reader, Quote& quote) {
  read(reader, quote.signature);
  read(reader, quote.attestation_key);
  if (quote.version > 3) {
    if (const uint16_t type = read_u16(reader); type != kQeReportData)
      throw InputError(fmt::format("quote: certification data of type {}, expected 6 (QE report)", type));
    if (const uint32_t size = reader.u32(); size != reader.left())
      throw InputError(fmt::format("quote: certification data of {} bytes, expected {}", size, reader.left()));
  }
  read_qe_part(reader, quote);
  if (reader.left() != 0)
    throw InputError(fmt::format("quote: {} bytes after the PCK chain, expected none", reader.left()));
}

}  // namespace

Quote parse_quote(ByteView bytes) {
  ByteReader reader(bytes, "quote");
  Quote quote;
  read_header(reader, quote);
  if (quote.version == 3)
    quote.body = read_enclave_report(reader);
  else
    quote.body = quote.version == 4 ? read_td_report(reader, false) : read_described_body(reader);
  const ByteView signed_part = bytes.first(reader.offset());
  quote.signed_part.assign(signed_part.begin(), signed_part.end());
  const uint32_t size = reader.u32();
  if (size > kMaxSignatureBytes)
    throw InputError(fmt::format("quote: {} bytes of signature data, expected at most {}", size, kMaxSignatureBytes));
  ByteReader signature(reader.bytes(size), "quote: signature data");
  read_signature(signature, quote);
  return quote;
}

}  // namespace tempo::attest
