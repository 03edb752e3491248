// What a peer can put into a shared segment. The first 32 bytes are the header; then come the peer's word of a ring, as
// u32, and the bytes of the ring.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "tempo/error.h"
#include "wire/messages.h"
#include "wire/shm_ring.h"

namespace {

using namespace tempo::wire;
constexpr size_t kHeaderBytes = 32, kRingBytes = 4096;

void parse_header(const uint8_t* data) {
  static std::vector<std::byte> segment(kMinSegmentBytes);
  std::memcpy(segment.data(), data, kHeaderBytes);
  const ShmLayout layout = read_shm_header(segment);
  if (layout.replies().end != segment.size() || layout.operands().end != layout.replies().begin ||
      layout.operands().begin > layout.operands().end || layout.replies().begin > layout.replies().end)
    std::abort();
}

void read_ring(const uint8_t* data, size_t size) {
  uint32_t written = 0, read = 0, sleeps = 0;
  std::memcpy(&written, data, sizeof written);
  std::vector<std::byte> bytes(kRingBytes);
  std::memcpy(bytes.data(), data + sizeof written, std::min(size - sizeof written, kRingBytes));
  RingReader reader({&written, &read, &sleeps, bytes});
  std::vector<std::byte> message;
  while (reader.try_read(message))
    if (message.size() > kRingBytes || read > written) std::abort();
  if (read != written) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kHeaderBytes + sizeof(uint32_t)) return 0;
  try {
    parse_header(data);
  } catch (const tempo::ProtocolError&) {
  }
  try {
    read_ring(data + kHeaderBytes, size - kHeaderBytes);
  } catch (const tempo::ProtocolError&) {
  }
  return 0;
}
