#include "wire/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::wire {
namespace frame_test {

using ::testing::HasSubstr;
using testing::message_of;

/// A frame of `message` and `payload` behind it.
std::vector<std::byte> frame(const ServerMessage& message, std::string_view payload) {
  std::vector<std::byte> bytes = frame_head(encode(message));
  const auto tail = testing::to_bytes(payload);
  bytes.insert(bytes.end(), tail.begin(), tail.end());
  return bytes;
}

/// The same bytes in pieces of `size`, with empty ones between.
FrameReader::Pieces cut(const std::vector<std::byte>& bytes, size_t size) {
  FrameReader::Pieces pieces;
  for (size_t at = 0; at < bytes.size(); at += size) {
    pieces.emplace_back(bytes.data() + at, std::min(size, bytes.size() - at));
    pieces.emplace_back();
  }
  return pieces;
}

std::string text_of(const FrameReader& reader) {
  std::string text(reader.payload_bytes(), '?');
  reader.copy_payload(reinterpret_cast<std::byte*>(text.data()));
  return text;
}

TEST(Frame, AFrameIsReadWhereverItIsCut) {
  const auto bytes = frame(Chunk{11}, "hello world");
  for (const size_t size : {1, 2, 3, 4, 5, 7, 100}) {
    SCOPED_TRACE(size);
    const FrameReader reader(cut(bytes, size));
    EXPECT_EQ(std::get<Chunk>(decode_server_message(reader.message())).bytes, 11U);
    EXPECT_EQ(text_of(reader), "hello world");
  }
  EXPECT_EQ(FrameReader(cut(frame(Goodbye{}, ""), 3)).payload_bytes(), 0U);
}

TEST(Frame, ImpossibleLengthsAreRefused) {
  const auto reason = [](const std::vector<std::byte>& bytes) {
    return message_of<ProtocolError>([&] { FrameReader reader(cut(bytes, 2)); });
  };
  const auto bytes_of = [](std::initializer_list<uint8_t> values) {
    std::vector<std::byte> bytes;
    for (const uint8_t value : values) bytes.push_back(std::byte{value});
    return bytes;
  };
  EXPECT_THAT(reason({}), HasSubstr("frame of 0 bytes, expected 4 to"));
  EXPECT_THAT(reason(bytes_of({0, 0, 0})), HasSubstr("frame of 3 bytes"));
  EXPECT_THAT(reason(bytes_of({2, 0, 0, 0, 1})), HasSubstr("message of 2 bytes in a frame that has 1"));
  EXPECT_THAT(reason(bytes_of({0xff, 0xff, 0xff, 0xff, 1})), HasSubstr("message of 4294967295 bytes"));
  EXPECT_THAT(reason(std::vector<std::byte>(kMaxFrameBytes + 1)), HasSubstr("expected 4 to"));
  std::vector<std::byte> long_message(kFrameLengthBytes + kMaxMessageBytes + 1);
  long_message[0] = std::byte{1};
  long_message[2] = std::byte{0x10};  // 2^20 + 1
  EXPECT_THAT(reason(long_message), HasSubstr("message of 1048577 bytes"));
}

std::optional<contract::Buffer> add(TensorReceiver& receiver, uint64_t claimed, std::string_view payload) {
  const auto bytes = frame(Chunk{claimed}, payload);
  return receiver.add(Chunk{claimed}, FrameReader({bytes}));
}

TEST(TensorReceiver, ChunksAreJoinedIntoATensor) {
  TensorReceiver receiver;
  EXPECT_FALSE(receiver.begin({.shape = {3}}));
  EXPECT_TRUE(receiver.is_waiting());
  EXPECT_FALSE(add(receiver, 5, "abcde"));
  const auto tensor = add(receiver, 7, "fghijkl");
  ASSERT_TRUE(tensor);
  EXPECT_EQ(std::memcmp(tensor->data(), "abcdefghijkl", 12), 0);
  EXPECT_FALSE(receiver.is_waiting());
  const auto empty = receiver.begin({.shape = {0, 4}});
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->bytes(), 0U);
}

TEST(TensorReceiver, ChunksThatDoNotFitAreRefused) {
  TensorReceiver receiver;
  EXPECT_THAT(message_of<ProtocolError>([&] { add(receiver, 1, "a"); }), HasSubstr("not announced"));
  receiver.begin({.shape = {2}});
  EXPECT_THAT(message_of<ProtocolError>([&] { receiver.begin({.shape = {2}}); }),
              HasSubstr("before the one announced"));
  EXPECT_THAT(message_of<ProtocolError>([&] { add(receiver, 3, "ab"); }), HasSubstr("3 bytes that has 2 behind it"));
  EXPECT_THAT(message_of<ProtocolError>([&] { add(receiver, 0, ""); }),
              HasSubstr("chunk of 0 bytes where 8 are missing"));
  EXPECT_THAT(message_of<ProtocolError>([&] { add(receiver, 9, "123456789"); }), HasSubstr("expected 1 to 8"));
  receiver = {};
  receiver.begin({.shape = {kMaxChunkBytes}});
  EXPECT_THAT(
      message_of<ProtocolError>([&] { add(receiver, kMaxChunkBytes + 1, std::string(kMaxChunkBytes + 1, 'x')); }),
      HasSubstr("expected"));
}

}  // namespace frame_test
}  // namespace tempo::wire
