#include "base/byte_reader.h"

#include <gmock/gmock.h>

#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo {
namespace byte_reader_test {

using ::tempo::testing::message_of;
using ::tempo::testing::to_bytes;

TEST(ByteReader, NumbersAreReadLittleEndianFrontToBack) {
  std::vector<std::byte> bytes{std::byte{0xFE}};
  append_u32(bytes, 0x89ABCDEFU);
  append_u64(bytes, 0x0123456789ABCDEFULL);
  EXPECT_EQ(bytes[1], std::byte{0xEF});
  const auto tail = to_bytes("tail");
  bytes.insert(bytes.end(), tail.begin(), tail.end());

  ByteReader reader(bytes, "here");
  EXPECT_EQ(reader.u8(), 0xFE);
  EXPECT_EQ(reader.u32(), 0x89ABCDEFU);
  EXPECT_EQ(reader.u64(), 0x0123456789ABCDEFULL);
  EXPECT_EQ(reader.offset(), 13U);
  EXPECT_EQ(reader.bytes(2)[1], std::byte{'a'});
  EXPECT_EQ(reader.text(2), "il");
  EXPECT_EQ(reader.left(), 0U);
  EXPECT_TRUE(reader.bytes(0).empty());
}

TEST(ByteReader, AReadPastTheEndIsRefusedAndDoesNotMoveTheReader) {
  const auto bytes = to_bytes("abc");
  ByteReader reader(bytes, "file.bin");
  reader.u8();
  EXPECT_EQ(message_of<InputError>([&] { reader.u32(); }), "file.bin: cut short: 4 bytes wanted at offset 1, 2 left");
  EXPECT_EQ(message_of<InputError>([&] { reader.text(SIZE_MAX); }),
            "file.bin: cut short: 18446744073709551615 bytes wanted at offset 1, 2 left");
  EXPECT_EQ(reader.text(2), "bc");
}

TEST(QuoteUntrusted, KeepsHostileTextOnOneLine) {
  EXPECT_EQ(quote_untrusted("plain"), "\"plain\"");
  EXPECT_EQ(quote_untrusted("a\n\x1b[2J\xff\"\\"), R"("a\x0a\x1b[2J\xff\"\\")");
  EXPECT_EQ(quote_untrusted("0123456789", 4), "\"0123\" (10 bytes)");
}

}  // namespace byte_reader_test
}  // namespace tempo
