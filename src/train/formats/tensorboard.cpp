#include "train/formats/tensorboard.h"

#include <fmt/format.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <span>

#include "base/byte_reader.h"
#include "base/path.h"
#include "tempo/error.h"
#include "train/formats/crc32c.h"

namespace tempo::train {
namespace {

using Bytes = std::vector<std::byte>;

// Protocol Buffers wire format: a key is (field number << 3) | type.
enum class WireType : uint8_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

void append_varint(Bytes& out, uint64_t value) {
  for (; value >= 0x80U; value >>= 7U) out.push_back(static_cast<std::byte>((value & 0x7FU) | 0x80U));
  out.push_back(static_cast<std::byte>(value));
}

void append_field(Bytes& out, uint8_t number, WireType type) {
  append_varint(out, (uint64_t{number} << 3U) | static_cast<uint64_t>(type));
}

void append_delimited(Bytes& out, uint8_t number, std::span<const std::byte> content) {
  append_field(out, number, WireType::kLengthDelimited);
  append_varint(out, content.size());
  out.insert(out.end(), content.begin(), content.end());
}

void append_delimited(Bytes& out, uint8_t number, std::string_view text) {
  append_delimited(out, number, std::as_bytes(std::span(text.data(), text.size())));
}

// Event { double wall_time = 1; int64 step = 2; oneof { string file_version = 3; Summary summary = 5;
//         SessionLog session_log = 7; } }
Bytes begin_event(double wall_time) {
  Bytes event;
  append_field(event, 1, WireType::kFixed64);
  append_u64(event, std::bit_cast<uint64_t>(wall_time));
  return event;
}

Bytes begin_event(double wall_time, int64_t step) {
  Bytes event = begin_event(wall_time);
  append_field(event, 2, WireType::kVarint);
  append_varint(event, static_cast<uint64_t>(step));
  return event;
}

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

std::vector<std::byte> encode_version_event(double wall_time) {
  Bytes event = begin_event(wall_time);
  append_delimited(event, 3, "brain.Event:2");
  return event;
}

std::vector<std::byte> encode_session_start_event(double wall_time, int64_t step) {
  // SessionLog { SessionStatus status = 1; }, START = 1
  constexpr uint64_t kStart = 1;
  Bytes session;
  append_field(session, 1, WireType::kVarint);
  append_varint(session, kStart);
  Bytes event = begin_event(wall_time, step);
  append_delimited(event, 7, session);
  return event;
}

std::vector<std::byte> encode_scalar_event(double wall_time, int64_t step, std::string_view tag, float value) {
  // Summary { repeated Value { string tag = 1; float simple_value = 2; } value = 1; }
  Bytes entry;
  append_delimited(entry, 1, tag);
  append_field(entry, 2, WireType::kFixed32);
  append_u32(entry, std::bit_cast<uint32_t>(value));
  Bytes summary;
  append_delimited(summary, 1, entry);

  Bytes event = begin_event(wall_time, step);
  append_delimited(event, 5, summary);
  return event;
}

std::vector<std::byte> frame_record(const std::vector<std::byte>& payload) {
  Bytes frame;
  frame.reserve(payload.size() + 16);
  append_u64(frame, payload.size());
  append_u32(frame, masked_crc32c(frame));
  frame.insert(frame.end(), payload.begin(), payload.end());
  append_u32(frame, masked_crc32c(payload));
  return frame;
}

TensorBoardWriter::TensorBoardWriter(const std::filesystem::path& folder, int64_t first_step)
    : path_(folder /
            fmt::format("events.out.tfevents.{:010}.{}.tempo", static_cast<int64_t>(unix_seconds()), ::getpid())) {
  make_folders(folder);
  file_.reset(std::fopen(path_.c_str(), "abe"));
  if (!file_) fail_at(path_, "created", errno);
  append(encode_version_event(unix_seconds()));
  append(encode_session_start_event(unix_seconds(), first_step));
  flush();
}

void TensorBoardWriter::append(const std::vector<std::byte>& event) {
  const Bytes frame = frame_record(event);
  if (std::fwrite(frame.data(), 1, frame.size(), file_.get()) != frame.size())
    throw RunError(fmt::format("{}: cannot be written: {}", path_.string(), std::strerror(errno)));
}

void TensorBoardWriter::scalar(std::string_view tag, double value, int64_t step) {
  append(encode_scalar_event(unix_seconds(), step, tag, static_cast<float>(value)));
}

void TensorBoardWriter::flush() {
  if (std::fflush(file_.get()) != 0)
    throw RunError(fmt::format("{}: cannot be written: {}", path_.string(), std::strerror(errno)));
}

}  // namespace tempo::train
