/// Frames of a stream of messages: the length of a message, the message, and behind a Chunk the bytes of a tensor.
/// Layout and rules: docs/formats/wire.md. Everything read here is hostile.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "tempo/worker.h"
#include "wire/messages.h"

namespace tempo::wire {

constexpr size_t kChunkBytes = size_t{2} << 20;     ///< of a tensor in one frame, as sent
constexpr size_t kMaxChunkBytes = size_t{4} << 20;  ///< as accepted
constexpr size_t kFrameLengthBytes = 4;
constexpr size_t kMaxFrameBytes = kFrameLengthBytes + kMaxMessageBytes + kMaxChunkBytes;

/// All of a frame but the bytes of a tensor.
std::vector<std::byte> frame_head(std::span<const std::byte> message);

/// One frame that arrived, in the pieces in which it arrived. Copies the message, borrows the rest.
class FrameReader {
 public:
  using Pieces = std::vector<std::span<const std::byte>>;
  /// @throws ProtocolError if the frame is too long, or ends before its message does.
  explicit FrameReader(Pieces pieces);

  [[nodiscard]] std::span<const std::byte> message() const { return message_; }
  /// Bytes behind the message.
  [[nodiscard]] size_t payload_bytes() const { return payload_bytes_; }
  /// @param to has room for `payload_bytes()`.
  void copy_payload(std::byte* to) const;

 private:
  /// Moves the first bytes of what is left to `to`.
  void take(std::span<std::byte> to);

  Pieces pieces_;  // what is left: the payload, once constructed
  std::vector<std::byte> message_;
  size_t payload_bytes_ = 0;
};

/// Puts a tensor together from its chunks. Memory is taken when it is announced and touched as the bytes arrive.
class TensorReceiver {
 public:
  /// A tensor was announced of which bytes are missing: nothing but its chunks may come now.
  [[nodiscard]] bool is_waiting() const { return tensor_.has_value(); }
  /// @returns the tensor at once if it has no bytes. @throws ProtocolError while another is incomplete.
  std::optional<contract::Buffer> begin(const contract::TensorSpec& spec);
  /// @returns the tensor with its last chunk.
  /// @throws ProtocolError for a chunk that nothing announced, is empty or too long, ends beyond the tensor, or says
  /// another size than it has.
  std::optional<contract::Buffer> add(const Chunk& chunk, const FrameReader& frame);

 private:
  std::optional<contract::Buffer> tensor_;
  size_t received_ = 0;
};

}  // namespace tempo::wire
