#include "wire/frame.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "tempo/error.h"

namespace tempo::wire {

using contract::Buffer;

std::vector<std::byte> frame_head(std::span<const std::byte> message) {
  std::vector<std::byte> head(kFrameLengthBytes + message.size());
  for (size_t i = 0; i < kFrameLengthBytes; ++i) head[i] = static_cast<std::byte>(message.size() >> (8 * i) & 0xff);
  std::copy(message.begin(), message.end(), head.begin() + kFrameLengthBytes);
  return head;
}

FrameReader::FrameReader(Pieces pieces) : pieces_(std::move(pieces)) {
  size_t left = 0;
  for (const auto& piece : pieces_) left += piece.size();
  if (left < kFrameLengthBytes || left > kMaxFrameBytes)
    throw ProtocolError(
        fmt::format("wire: got a frame of {} bytes, expected {} to {}", left, kFrameLengthBytes, kMaxFrameBytes));
  std::byte length_bytes[kFrameLengthBytes];
  take(length_bytes);
  size_t length = 0;
  for (size_t i = 0; i < kFrameLengthBytes; ++i) length |= std::to_integer<size_t>(length_bytes[i]) << (8 * i);
  left -= kFrameLengthBytes;
  if (length > std::min(left, kMaxMessageBytes))
    throw ProtocolError(fmt::format("wire: got a message of {} bytes in a frame that has {}, expected at most {}",
                                    length, left, kMaxMessageBytes));
  message_.resize(length);
  take(message_);
  payload_bytes_ = left - length;
}

void FrameReader::take(std::span<std::byte> to) {
  size_t done = 0;
  auto piece = pieces_.begin();
  while (done < to.size()) {
    const size_t count = std::min(piece->size(), to.size() - done);
    std::copy_n(piece->begin(), count, to.begin() + static_cast<ptrdiff_t>(done));
    done += count;
    *piece = piece->subspan(count);
    if (piece->empty()) ++piece;
  }
  pieces_.erase(pieces_.begin(), piece);
}

void FrameReader::copy_payload(std::byte* to) const {
  for (const auto& piece : pieces_) {
    if (!piece.empty()) std::memcpy(to, piece.data(), piece.size());
    to += piece.size();
  }
}

std::optional<Buffer> TensorReceiver::begin(const contract::TensorSpec& spec) {
  if (is_waiting()) throw ProtocolError("wire: got a tensor before the one announced last was complete");
  Buffer tensor = Buffer::allocate(spec);
  if (tensor.bytes() == 0) return tensor;
  tensor_ = std::move(tensor);
  received_ = 0;
  return std::nullopt;
}

std::optional<Buffer> TensorReceiver::add(const Chunk& chunk, const FrameReader& frame) {
  if (!is_waiting()) throw ProtocolError("wire: got a chunk of a tensor that was not announced");
  if (chunk.bytes != frame.payload_bytes())
    throw ProtocolError(
        fmt::format("wire: got a chunk of {} bytes that has {} behind it", chunk.bytes, frame.payload_bytes()));
  const size_t missing = tensor_->bytes() - received_;
  if (chunk.bytes == 0 || chunk.bytes > std::min(missing, kMaxChunkBytes))
    throw ProtocolError(fmt::format("wire: got a chunk of {} bytes where {} are missing, expected 1 to {}", chunk.bytes,
                                    missing, std::min(missing, kMaxChunkBytes)));
  frame.copy_payload(tensor_->data() + received_);
  received_ += chunk.bytes;
  if (received_ < tensor_->bytes()) return std::nullopt;
  std::optional<Buffer> complete;
  complete.swap(tensor_);
  return complete;
}

}  // namespace tempo::wire
