#include "attest/simulated.h"

#include <sodium.h>

#include <algorithm>

#include "attest/crypto/json.h"
#include "base/byte_reader.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

constexpr std::string_view kMagic = "insecure-simulated-tee-1";
constexpr size_t kSignedBytes = kMagic.size() + 32 + 64 + crypto_sign_PUBLICKEYBYTES;

struct SigningKey {
  std::array<unsigned char, crypto_sign_SECRETKEYBYTES> secret{};
  std::array<unsigned char, crypto_sign_PUBLICKEYBYTES> open{};
  SigningKey() {
    if (sodium_init() < 0 || crypto_sign_keypair(open.data(), secret.data()) != 0)
      throw RunError("insecure-simulated: libsodium cannot make a key");
  }
  SigningKey(const SigningKey&) = delete;
  SigningKey& operator=(const SigningKey&) = delete;
  ~SigningKey() { sodium_memzero(secret.data(), secret.size()); }
};

}  // namespace

bool is_insecure_simulated_report(ByteView bytes) { return as_text(bytes).starts_with(kMagic); }

Bytes make_insecure_simulated_report(const InsecureSimulatedReport& report) {
  const SigningKey key;
  Bytes out;
  const auto append = [&](ByteView part) { out.insert(out.end(), part.begin(), part.end()); };
  append(as_view(kMagic));
  append(report.measurement);
  append(report.report_data);
  append(std::as_bytes(std::span(key.open)));
  std::array<unsigned char, crypto_sign_BYTES> signature{};
  if (crypto_sign_detached(signature.data(), nullptr, raw(out), out.size(), key.secret.data()) != 0)
    throw RunError("insecure-simulated: libsodium cannot sign");
  append(std::as_bytes(std::span(signature)));
  return out;
}

InsecureSimulatedReport open_insecure_simulated_report(ByteView bytes) {
  ByteReader reader(bytes, "insecure-simulated report");
  if (reader.text(kMagic.size()) != kMagic) throw InputError("insecure-simulated report: begins with something else");
  InsecureSimulatedReport report;
  const ByteView measurement = reader.bytes(report.measurement.size());
  const ByteView report_data = reader.bytes(report.report_data.size());
  const ByteView key = reader.bytes(crypto_sign_PUBLICKEYBYTES), signature = reader.bytes(crypto_sign_BYTES);
  if (reader.left() != 0) throw InputError("insecure-simulated report: bytes after its signature, expected none");
  if (crypto_sign_verify_detached(raw(signature), raw(bytes), kSignedBytes, raw(key)) != 0)
    throw AttestationError("insecure-simulated: the report's signature does not verify");
  std::copy(measurement.begin(), measurement.end(), report.measurement.begin());
  std::copy(report_data.begin(), report_data.end(), report.report_data.begin());
  return report;
}

}  // namespace tempo::attest
