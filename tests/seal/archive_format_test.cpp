#include "seal/archive_format.h"

#include <gmock/gmock.h>

#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::seal {
namespace archive_format_test {

using ::tempo::testing::message_of;
using ::testing::HasSubstr;

using Bytes = std::vector<std::byte>;

TEST(ArchiveTable, PathsThatLeaveTheTreeAreRefused) {
  const auto refusal = [](std::vector<ArchiveEntry> entries) {
    return message_of<InputError>([&] { make_table(std::move(entries)); });
  };
  for (const std::string& path : {std::string("/etc/passwd"), std::string(""), std::string("a//b"), std::string("a/"),
                                  std::string(".."), std::string("a/../b"), std::string("./a"), std::string("a/.")})
    EXPECT_THAT(refusal({{.path = path}}), HasSubstr("expected a plain path inside the tree")) << path;
  EXPECT_THAT(refusal({{.path = "a\nb"}}), HasSubstr("path \"a\\x0ab\" has a control character in it"));
  EXPECT_THAT(refusal({{.path = std::string("a\0b", 3)}}), HasSubstr("control character"));
  EXPECT_THAT(refusal({{.path = "a\x7F"}}), HasSubstr("control character"));
  EXPECT_THAT(refusal({{.path = std::string(256, 'a')}}), HasSubstr("more than 255 bytes"));
  std::string deep = "a";
  for (int i = 0; i < 64; ++i) deep += "/a";
  EXPECT_THAT(refusal({{.path = deep}}), HasSubstr("more than 64 folders deep"));
  EXPECT_THAT(refusal({{.path = "a"}, {.path = "a"}}), HasSubstr("path \"a\" comes twice"));
  EXPECT_THAT(refusal({{.path = "a"}, {.path = "a/b"}}), HasSubstr("path \"a/b\" is not inside a folder"));
  EXPECT_THAT(refusal({{.path = "a", .bytes = uint64_t{1} << 56U}, {.path = "b", .bytes = 1}}), HasSubstr("2^56"));
  EXPECT_EQ(make_table({{.path = "\xC3\xBC"}, {.path = "..a"}, {.path = "a b"}}).entries.size(), 3U);
}

/// What a hostile holder of the key could write.
class ArchiveTableParser : public ::testing::Test {
 protected:
  static std::string refusal(const Bytes& bytes) {
    return message_of<InputError>([&] { parse_table(bytes, "x"); });
  }
  static Bytes encoded(std::vector<ArchiveEntry> entries) {
    ArchiveTable table{.entries = std::move(entries)};
    table.table_bytes = 8 + 32 + 4;
    for (const auto& e : table.entries) table.table_bytes += 5 + e.path.size() + (e.is_folder ? 0 : 8);
    return encode_table(table);
  }
};

TEST_F(ArchiveTableParser, ATableRoundTrips) {
  const ArchiveTable table = make_table({{.path = "d/e", .bytes = 5}, {.path = "f", .bytes = 7}});
  const ArchiveTable got = parse_table(encode_table(table), "x");
  ASSERT_EQ(got.entries.size(), 3U);
  EXPECT_EQ(got.entries[1].path, "d/e");
  EXPECT_EQ(got.entries[1].offset, table.table_bytes);
  EXPECT_EQ(got.entries[2].offset, table.table_bytes + 5);
  EXPECT_EQ(got.content_bytes, 12U);
}

TEST_F(ArchiveTableParser, TablesThatAWriterWouldNotMakeAreRefused) {
  EXPECT_THAT(refusal(encoded({{.path = "../x"}})), HasSubstr("x: path \"../x\" has . or .. in it"));
  EXPECT_THAT(refusal(encoded({{.path = "/x"}})), HasSubstr("is absolute"));
  EXPECT_THAT(refusal(encoded({{.path = "b"}, {.path = "a"}})), HasSubstr("path \"a\" comes out of order"));
  EXPECT_THAT(refusal(encoded({{.path = "a"}, {.path = "a"}})), HasSubstr("path \"a\" comes twice"));
  EXPECT_THAT(refusal(encoded({{.path = "a/b"}})), HasSubstr("path \"a/b\" is not inside a folder of the tree"));
  EXPECT_THAT(refusal(encoded({{.path = "a", .bytes = UINT64_MAX}})), HasSubstr("2^56"));
  Bytes kind = encoded({{.path = "a"}});
  kind[44] = std::byte{2};
  EXPECT_EQ(refusal(kind), "x: an entry of kind 2, expected 0 or 1");
  Bytes length = encoded({{.path = "a"}});
  length[46] = std::byte{0x20};
  EXPECT_EQ(refusal(length), "x: a path of 8193 bytes, expected at most 4096");
  Bytes count = encoded({{.path = "a"}});
  count[43] = std::byte{0xFF};
  EXPECT_EQ(refusal(count), "x: 4278190081 files and folders in a table of 58 bytes, expected fewer");
}

TEST_F(ArchiveTableParser, EveryTruncatedOrLongerTableIsRefused) {
  const Bytes good = encoded({{.path = "a", .is_folder = true}, {.path = "a/b", .bytes = 5}});
  for (size_t size = 0; size < good.size(); ++size) {
    Bytes bad(good.begin(), good.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_FALSE(refusal(bad).empty()) << size;
    if (size < 8) continue;
    bad[0] = static_cast<std::byte>(size);  // a table that says so
    EXPECT_FALSE(refusal(bad).empty()) << size;
  }
  Bytes longer = good;
  longer.push_back(std::byte{0});
  longer[0] = static_cast<std::byte>(longer.size());
  EXPECT_EQ(refusal(longer), "x: 1 bytes after the table of files, expected none");
}

}  // namespace archive_format_test
}  // namespace tempo::seal
