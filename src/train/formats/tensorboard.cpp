#include "train/formats/tensorboard.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/byte_reader.h"
#include "base/path.h"
#include "tempo/error.h"
#include "tempo/tensorboard.pb.h"
#include "train/formats/crc32c.h"

namespace tempo::train {
namespace {

using tensorboard::Event;
using Bytes = std::vector<std::byte>;

Event event_of(double wall_time, int64_t step = 0) {
  Event event;
  event.set_wall_time(wall_time);
  event.set_step(step);
  return event;
}

Bytes encode(const Event& event) {
  Bytes bytes(event.ByteSizeLong());
  if (!event.SerializeToArray(bytes.data(), static_cast<int>(bytes.size())))
    throw RunError("tensorboard: an event could not be encoded");
  return bytes;
}

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

std::vector<std::byte> encode_version_event(double wall_time) {
  Event event = event_of(wall_time);
  event.set_file_version("brain.Event:2");
  return encode(event);
}

std::vector<std::byte> encode_session_start_event(double wall_time, int64_t step) {
  Event event = event_of(wall_time, step);
  event.mutable_session_log()->set_status(tensorboard::SessionLog::START);
  return encode(event);
}

std::vector<std::byte> encode_scalar_event(double wall_time, int64_t step, std::string_view tag, float value) {
  Event event = event_of(wall_time, step);
  tensorboard::Summary::Value* entry = event.mutable_summary()->add_value();
  entry->set_tag(std::string(tag));
  entry->set_simple_value(value);
  return encode(event);
}

std::vector<std::byte> frame_record(const std::vector<std::byte>& payload) {
  Bytes frame;
  frame.reserve(payload.size() + 16);
  append_u64(frame, payload.size());
  append_u32(frame, masked_crc32c(frame));
  append(frame, payload);
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
