// See fuzz_quote.h.
#include "fuzz_quote.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tempo::attest::fuzz_quote(std::as_bytes(std::span(data, size)), tempo::attest::Tee::kTdx);
  return 0;
}
