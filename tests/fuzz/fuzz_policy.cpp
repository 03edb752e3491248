// Any bytes are refused with an InputError, or are a policy that is the same when it is written and read again.
#include <cstdlib>

#include "attest/crypto/json.h"
#include "attest/policy.h"
#include "tempo/error.h"

using namespace tempo::attest;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Policy policy;
  try {
    policy = parse_policy(std::as_bytes(std::span(data, size)), "fuzz");
  } catch (const tempo::InputError&) {
    return 0;
  }
  if (parse_policy(as_view(to_json(policy)), "again") != policy) std::abort();
  return 0;
}
