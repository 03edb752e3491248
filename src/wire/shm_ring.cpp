#include "wire/shm_ring.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "tempo/error.h"
#include "wire/messages.h"

namespace tempo::wire {
namespace {

constexpr uint32_t kLengthBytes = 4;

// Sequentially consistent: "publish, then look whether the reader sleeps" against "say so, then look for a message".
uint32_t load(const uint32_t* word) { return std::atomic_ref<uint32_t>(*const_cast<uint32_t*>(word)).load(); }
void store(uint32_t* word, uint32_t value) { std::atomic_ref<uint32_t>(*word).store(value); }

}  // namespace

bool RingWriter::try_write(std::span<const std::byte> message) {
  const auto capacity = static_cast<uint32_t>(memory_.bytes.size());
  if (message.size() > kMaxMessageBytes || message.size() > capacity - kLengthBytes)
    throw ProtocolError(fmt::format("shm: got a message of {} bytes to send, expected at most {}", message.size(),
                                    std::min<size_t>(kMaxMessageBytes, capacity - kLengthBytes)));
  const uint32_t used = written_ - load(memory_.read);
  if (used > capacity) throw ProtocolError("shm: the peer claims to have read what was never written");
  const auto length = static_cast<uint32_t>(message.size());
  if (capacity - used < kLengthBytes + length) return false;
  copy_in(written_, std::as_bytes(std::span(&length, 1)));
  copy_in(written_ + kLengthBytes, message);
  written_ += kLengthBytes + length;
  store(memory_.written, written_);
  return true;
}

bool RingWriter::take_reader_sleep() {
  return load(memory_.reader_sleeps) != 0 && std::atomic_ref<uint32_t>(*memory_.reader_sleeps).exchange(0) != 0;
}

void RingWriter::copy_in(uint32_t position, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const size_t at = position & (memory_.bytes.size() - 1);
  const size_t first = std::min(bytes.size(), memory_.bytes.size() - at);
  std::memcpy(memory_.bytes.data() + at, bytes.data(), first);
  if (first < bytes.size()) std::memcpy(memory_.bytes.data(), bytes.data() + first, bytes.size() - first);
}

bool RingReader::try_read(std::vector<std::byte>& message) {
  const auto capacity = static_cast<uint32_t>(memory_.bytes.size());
  const uint32_t available = load(memory_.written) - read_;
  if (available == 0) return false;
  if (available > capacity || available < kLengthBytes)
    throw ProtocolError(
        fmt::format("shm: the peer claims {} unread bytes, expected {} to {}", available, kLengthBytes, capacity));
  uint32_t length = 0;
  copy_out(read_, std::as_writable_bytes(std::span(&length, 1)));
  if (length > kMaxMessageBytes || length > available - kLengthBytes)
    throw ProtocolError(fmt::format("shm: got a message of {} bytes, expected at most {}", length,
                                    std::min<size_t>(kMaxMessageBytes, available - kLengthBytes)));
  message.resize(length);
  copy_out(read_ + kLengthBytes, message);
  read_ += kLengthBytes + length;
  store(memory_.read, read_);
  return true;
}

bool RingReader::is_empty() const { return load(memory_.written) == read_; }

void RingReader::announce_sleep() { store(memory_.reader_sleeps, 1); }

void RingReader::copy_out(uint32_t position, std::span<std::byte> bytes) const {
  if (bytes.empty()) return;
  const size_t at = position & (memory_.bytes.size() - 1);
  const size_t first = std::min(bytes.size(), memory_.bytes.size() - at);
  std::memcpy(bytes.data(), memory_.bytes.data() + at, first);
  if (first < bytes.size()) std::memcpy(bytes.data() + first, memory_.bytes.data(), bytes.size() - first);
}

}  // namespace tempo::wire
