// What either side of a connection can send. A message that is taken must survive being written and read again.
#include <cstdlib>

#include "tempo/error.h"
#include "wire/messages.h"

namespace {

template <typename Decode>
void check(std::span<const std::byte> bytes, const Decode& decode) {
  try {
    const auto message = decode(bytes);
    const auto again = tempo::wire::encode(message);
    if (tempo::wire::encode(decode(again)) != again) std::abort();
  } catch (const tempo::ProtocolError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  check(bytes, tempo::wire::decode_client_message);
  check(bytes, tempo::wire::decode_server_message);
  return 0;
}
