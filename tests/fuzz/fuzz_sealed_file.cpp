// Any bytes are refused with an InputError, except the seeds themselves, which were sealed under this key.
#include "base/csprng.h"
#include "seal/sealed_file.h"
#include "tempo/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const tempo::SecretKey key = tempo::key_from_seed_insecure(1);
  constexpr size_t kMaxPlainBytes = 1 << 20;
  try {
    tempo::seal::unseal(std::as_bytes(std::span(data, size)), "fuzz", key, "checkpoint", kMaxPlainBytes);
  } catch (const tempo::InputError&) {
  }
  return 0;
}
