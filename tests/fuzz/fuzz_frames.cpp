// What either side of a gRPC stream can send, frame by frame: the frames that a session reads, and the tensors that are
// put together from them. The input is frames, each after its length in two bytes.
#include <algorithm>
#include <cstdlib>

#include "tempo/error.h"
#include "wire/frame.h"

namespace {

using namespace tempo::wire;

constexpr size_t kMaxTestTensor = 4096;  // an announcement costs memory, which the sides bound by what they expect

/// The payload must be what lies behind the message, however the frame is cut.
void check_cuts(std::span<const std::byte> frame, const FrameReader& whole) {
  const size_t middle = frame.size() / 2;
  const FrameReader halves({frame.first(middle), {}, frame.subspan(middle)});
  std::vector<std::byte> payload(whole.payload_bytes()), again(halves.payload_bytes());
  whole.copy_payload(payload.data());
  halves.copy_payload(again.data());
  if (payload != again || !std::equal(whole.message().begin(), whole.message().end(), halves.message().begin()))
    std::abort();
}

template <typename Announcement, typename Message>
void receive(TensorReceiver& receiver, const Message& message, const FrameReader& frame) {
  if (const auto* announced = std::get_if<Announcement>(&message);
      announced != nullptr && announced->spec.bytes() <= kMaxTestTensor)
    receiver.begin(announced->spec);
  if (const auto* chunk = std::get_if<Chunk>(&message)) receiver.add(*chunk, frame);
}

template <typename Announcement, typename Decode>
void play(std::span<const std::byte> bytes, const Decode& decode) {
  TensorReceiver receiver;
  try {
    while (bytes.size() >= 2) {
      const size_t length = std::to_integer<size_t>(bytes[0]) | std::to_integer<size_t>(bytes[1]) << 8;
      const auto frame = bytes.subspan(2, std::min(length, bytes.size() - 2));
      bytes = bytes.subspan(2 + frame.size());
      const FrameReader reader({frame});
      check_cuts(frame, reader);
      receive<Announcement>(receiver, decode(reader.message()), reader);
    }
  } catch (const tempo::ProtocolError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  play<Put>(bytes, decode_client_message);
  play<Reply>(bytes, decode_server_message);
  return 0;
}
