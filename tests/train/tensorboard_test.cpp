#include "train/formats/tensorboard.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <bit>
#include <ctime>

#include "base/byte_reader.h"
#include "base/file.h"
#include "support/temp_folder.h"
#include "tempo/error.h"
#include "train/formats/crc32c.h"

namespace tempo::train {
namespace tensorboard_test {

using ::tempo::testing::message_of;
using ::tempo::testing::TempFolder;
using ::tempo::testing::to_bytes;
using ::tempo::testing::write_text;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

using Bytes = std::vector<std::byte>;

TEST(Crc32c, ChecksumsEqualThePublishedValues) {
  EXPECT_EQ(crc32c(to_bytes("123456789")), 0xE3069283U);
  EXPECT_EQ(crc32c({}), 0U);
  // RFC 3720, appendix B.4.
  EXPECT_EQ(crc32c(Bytes(32, std::byte{0x00})), 0x8A9136AAU);
  EXPECT_EQ(crc32c(Bytes(32, std::byte{0xFF})), 0x62A8AB43U);
  Bytes ascending;
  for (int i = 0; i < 32; ++i) ascending.push_back(static_cast<std::byte>(i));
  EXPECT_EQ(crc32c(ascending), 0x46DD794EU);
  EXPECT_EQ(masked_crc32c({}), 0xA282EAD8U);
}

TEST(TensorBoard, EventsAreEncodedByteForByte) {
  // 1.0 as a double is 3F F0 00...; 0.5 as a float is 3F 00 00 00.
  EXPECT_EQ(encode_version_event(1.0), to_bytes(std::string("\x09\0\0\0\0\0\0\xF0\x3F", 9) + "\x1A\x0D"
                                                                                             "brain.Event:2"));
  EXPECT_EQ(encode_session_start_event(1.0, 300),
            to_bytes(std::string("\x09\0\0\0\0\0\0\xF0\x3F", 9) + "\x10\xAC\x02" + "\x3A\x02\x08\x01"));
  EXPECT_EQ(encode_scalar_event(1.0, 300, "loss", 0.5F),
            to_bytes(std::string("\x09\0\0\0\0\0\0\xF0\x3F", 9) + "\x10\xAC\x02" +
                     "\x2A\x0D\x0A\x0B\x0A\x04"
                     "loss" +
                     std::string("\x15\0\0\0\x3F", 5)));
}

TEST(TensorBoard, AFramedRecordHasLengthAndChecksums) {
  const Bytes payload = to_bytes("payload");
  const Bytes frame = frame_record(payload);
  ByteReader reader(frame, "frame");
  EXPECT_EQ(reader.u64(), payload.size());
  EXPECT_EQ(reader.u32(), masked_crc32c(std::span(frame).first(8)));
  EXPECT_EQ(reader.text(7), "payload");
  EXPECT_EQ(reader.u32(), masked_crc32c(payload));
  EXPECT_EQ(reader.left(), 0U);
}

/// Splits a file into payloads and checks every checksum.
std::vector<Bytes> payloads(const std::filesystem::path& path) {
  const Bytes bytes = read_file(path, 1 << 20);
  ByteReader reader(bytes, path.string());
  std::vector<Bytes> found;
  while (reader.left() > 0) {
    const size_t start = reader.offset();
    const uint64_t length = reader.u64();
    EXPECT_EQ(reader.u32(), masked_crc32c(std::span(bytes).subspan(start, 8)));
    const auto payload = reader.bytes(length);
    EXPECT_EQ(reader.u32(), masked_crc32c(payload));
    found.emplace_back(payload.begin(), payload.end());
  }
  return found;
}

TEST(TensorBoard, AFileBeginsWithItsVersionAndHoldsTheScalars) {
  const TempFolder folder;
  TensorBoardWriter writer(folder / "run" / "events", 7);
  EXPECT_THAT(writer.path().filename().string(),
              MatchesRegex(fmt::format("events.out.tfevents.[0-9]{{10}}.{}.tempo", ::getpid())));
  ASSERT_EQ(payloads(writer.path()).size(), 2U);
  writer.scalar("train/loss", 2.25, 1);
  writer.scalar("train/loss", 1.125, int64_t{1} << 40);
  writer.flush();

  const auto events = payloads(writer.path());
  ASSERT_EQ(events.size(), 4U);
  ByteReader version(events[0], "version");
  version.u8();
  EXPECT_NEAR(std::bit_cast<double>(version.u64()), static_cast<double>(std::time(nullptr)), 60);
  EXPECT_EQ(version.text(version.left()),
            "\x1A\x0D"
            "brain.Event:2");

  const auto wall_time_of = [](const Bytes& event) {
    ByteReader reader(event, "event");
    EXPECT_EQ(reader.u8(), 0x09);
    return std::bit_cast<double>(reader.u64());
  };
  EXPECT_EQ(events[1], encode_session_start_event(wall_time_of(events[1]), 7));
  EXPECT_EQ(events[2], encode_scalar_event(wall_time_of(events[2]), 1, "train/loss", 2.25F));
}

TEST(TensorBoard, TwoWritersInOneFolderLoseNoRecord) {
  const TempFolder folder;
  const TensorBoardWriter first(folder.path(), 1);
  const TensorBoardWriter second(folder.path(), 5);
  size_t records = 0;
  for (const auto& name : folder.names()) records += payloads(folder / name).size();
  EXPECT_EQ(records, 4U);
}

TEST(TensorBoard, AFolderThatCannotBeMadeIsReported) {
  const TempFolder folder;
  write_text(folder / "file", "");
  EXPECT_THAT(message_of<InputError>([&] { TensorBoardWriter(folder / "file" / "events", 1); }),
              HasSubstr("file/events: cannot be made"));
}

}  // namespace tensorboard_test
}  // namespace tempo::train
