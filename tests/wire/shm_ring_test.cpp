#include "wire/shm_ring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "support/temp_folder.h"
#include "tempo/error.h"
#include "wire/messages.h"

namespace tempo::wire {
namespace shm_ring_test {

using ::testing::HasSubstr;
using testing::message_of;

constexpr uint32_t kCapacity = 64;

std::vector<std::byte> message_of_size(size_t bytes, uint8_t seed = 1) {
  std::vector<std::byte> message(bytes);
  for (size_t i = 0; i < bytes; ++i) message[i] = static_cast<std::byte>(seed + i);
  return message;
}

class ShmRingTest : public ::testing::Test {
 protected:
  void set_length(uint32_t position, uint32_t length) { std::memcpy(bytes_.data() + position, &length, 4); }
  std::string read_refusal() {
    return message_of<ProtocolError>([this] { reader_.try_read(read_); });
  }

  uint32_t written_word_ = 0, read_word_ = 0, sleeps_ = 0;
  std::vector<std::byte> bytes_ = std::vector<std::byte>(kCapacity);
  RingMemory memory_ = {&written_word_, &read_word_, &sleeps_, bytes_};
  RingWriter writer_{memory_};
  RingReader reader_{memory_};
  std::vector<std::byte> read_;
};

TEST_F(ShmRingTest, MessagesAreReadBackWhileTheRingWrapsAtEveryOffset) {
  for (int i = 0; i < 1000; ++i) {
    const auto message = message_of_size(static_cast<size_t>(i) % 23, static_cast<uint8_t>(i));
    ASSERT_TRUE(writer_.try_write(message));
    ASSERT_TRUE(reader_.try_read(read_));
    ASSERT_EQ(read_, message) << i;
  }
  EXPECT_TRUE(reader_.is_empty());
}

TEST_F(ShmRingTest, TheRingIsFullAndEmptyAtTheExactByte) {
  EXPECT_TRUE(reader_.is_empty());
  EXPECT_FALSE(reader_.try_read(read_));
  EXPECT_TRUE(writer_.try_write(message_of_size(28)));
  EXPECT_FALSE(writer_.try_write(message_of_size(29)));
  EXPECT_TRUE(writer_.try_write(message_of_size(28, 9)));
  EXPECT_FALSE(writer_.try_write({}));
  EXPECT_TRUE(reader_.try_read(read_));
  EXPECT_TRUE(writer_.try_write(message_of_size(20)));
  EXPECT_TRUE(reader_.try_read(read_));
  EXPECT_EQ(read_, message_of_size(28, 9));
  EXPECT_TRUE(reader_.try_read(read_));
  EXPECT_FALSE(reader_.try_read(read_));
}

TEST_F(ShmRingTest, PositionsWrapBeyondFourGiB) {
  // The words wrap at 2^32.
  std::vector<std::byte> bytes(size_t{1} << 21);
  RingMemory memory = {&written_word_, &read_word_, &sleeps_, bytes};
  RingWriter writer(memory);
  RingReader reader(memory);
  const auto message = message_of_size(kMaxMessageBytes);
  for (int i = 0; i < 4200; ++i) {
    ASSERT_TRUE(writer.try_write(message));
    ASSERT_TRUE(reader.try_read(read_));
  }
  EXPECT_EQ(read_, message);
  EXPECT_EQ(written_word_, static_cast<uint32_t>(4200ULL * (kMaxMessageBytes + 4)));
}

TEST_F(ShmRingTest, MessagesLargerThanTheRingAreRefused) {
  EXPECT_THAT(message_of<ProtocolError>([&] { writer_.try_write(message_of_size(kCapacity - 3)); }),
              HasSubstr("got a message of 61 bytes to send, expected at most 60"));
}

TEST_F(ShmRingTest, AReadPositionAheadOfTheWriterIsRefused) {
  EXPECT_TRUE(writer_.try_write(message_of_size(4)));
  for (const uint32_t claimed : {9U, 200U, 0x80000000U, 8U - kCapacity - 1}) {
    read_word_ = claimed;
    EXPECT_THAT(message_of<ProtocolError>([&] { writer_.try_write(message_of_size(4)); }), HasSubstr("never written"));
  }
}

TEST_F(ShmRingTest, AWritePositionBeyondTheRingIsRefused) {
  for (const uint32_t claimed : {kCapacity + 1, 1U, 3U, UINT32_MAX, 0x80000000U}) {
    written_word_ = claimed;
    EXPECT_THAT(read_refusal(), HasSubstr("unread bytes, expected 4 to 64"));
  }
}

TEST_F(ShmRingTest, ALengthBeyondTheBytesWrittenIsRefused) {
  written_word_ = 20;
  for (const uint32_t length : {17U, kCapacity, 1U << 21, UINT32_MAX, UINT32_MAX - 3}) {
    set_length(0, length);
    EXPECT_THAT(read_refusal(), HasSubstr("expected at most 16"));
  }
}

TEST_F(ShmRingTest, ThePeerCannotTurnTheReadersPositionBack) {
  ASSERT_TRUE(writer_.try_write(message_of_size(4)));
  ASSERT_TRUE(reader_.try_read(read_));
  read_word_ = 0;  // a peer that turns it back does not make the reader read again
  EXPECT_FALSE(reader_.try_read(read_));
}

TEST_F(ShmRingTest, AnAnnouncedSleepIsTakenOnce) {
  EXPECT_FALSE(writer_.take_reader_sleep());
  reader_.announce_sleep();
  EXPECT_TRUE(writer_.take_reader_sleep());
  EXPECT_FALSE(writer_.take_reader_sleep());
  sleeps_ = 77;
  EXPECT_TRUE(writer_.take_reader_sleep());
}

TEST_F(ShmRingTest, TwoThreadsSeeEveryMessageInOrder) {
  constexpr uint32_t kMessages = 200'000;
  std::thread writing([&] {
    for (uint32_t i = 0; i < kMessages; ++i)
      while (!writer_.try_write(std::as_bytes(std::span(&i, 1)))) std::this_thread::yield();
  });
  for (uint32_t i = 0; i < kMessages; ++i) {
    while (!reader_.try_read(read_)) std::this_thread::yield();
    uint32_t value = 0;
    ASSERT_EQ(read_.size(), sizeof value);
    std::memcpy(&value, read_.data(), sizeof value);
    EXPECT_EQ(value, i);
  }
  writing.join();
}

}  // namespace shm_ring_test
}  // namespace tempo::wire
