/// The messages of proto/tempo/v1/worker.proto as the types of tempo/worker.h. Shared by master and worker; nothing
/// here is secret. Everything that arrives is hostile until one of these functions has returned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "tempo/worker.h"

namespace tempo::wire {

constexpr uint32_t kProtocol = 2;
/// Bounds of what is accepted, whatever the peer says.
constexpr size_t kMaxDimensions = 8;
constexpr size_t kMaxMessageBytes = size_t{1} << 20;  ///< of one encoded message, without tensor bytes
constexpr size_t kMaxTensorBytes = size_t{1} << 34;   ///< of one operand or result
constexpr size_t kMaxFreed = size_t{1} << 16;         ///< operands of one Free
constexpr size_t kMaxTextBytes = 1024;                ///< of a reason, a version, a device

struct Hello {
  uint32_t protocol = kProtocol;
  std::string version;
};
struct Put {
  contract::OperandId operand = 0;
  contract::TensorSpec spec;
  uint64_t offset = 0;
};
struct Chunk {
  uint64_t bytes = 0;
};
struct Free {
  std::vector<contract::OperandId> operands;
};
struct Submit {
  uint64_t number = 0;
  contract::Operation operation;
};
struct Release {
  uint64_t offset = 0;
};
using ClientMessage = std::variant<Hello, Put, Chunk, Free, Submit, Release>;

struct Welcome {
  uint32_t protocol = kProtocol;
  std::string version, device;
  uint64_t memory_bytes = 0;
  std::string collective;
};
struct Reply {
  uint64_t number = 0;
  contract::TensorSpec spec;
  uint64_t offset = 0;
};
struct Refusal {
  uint64_t number = 0;
  std::string reason;
};
struct Goodbye {
  std::string reason;
};
struct Freed {
  uint64_t offset = 0;
};
using ServerMessage = std::variant<Welcome, Reply, Chunk, Refusal, Goodbye, Freed>;

/// Texts are cut to their first line and kMaxTextBytes; what is not printable ASCII becomes a question mark.
std::vector<std::byte> encode(const ClientMessage& message);
std::vector<std::byte> encode(const ServerMessage& message);

/// @throws ProtocolError, with a one-line reason that says what came and what was expected, for bytes that are not a
/// message, an unknown or missing kind, an unspecified type, a dimension that is negative, too many dimensions, a
/// tensor larger than kMaxTensorBytes, a stride or dilation below 1 or above 2^20 (conv2d), numbers that are not
/// finite, a group of no or too many members, a rank outside it, text that is not printable ASCII (it ends up in logs)
/// or longer than allowed. Nothing is allocated before its size was checked.
ClientMessage decode_client_message(std::span<const std::byte> bytes);
ServerMessage decode_server_message(std::span<const std::byte> bytes);

}  // namespace tempo::wire
