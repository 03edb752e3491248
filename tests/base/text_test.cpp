#include "base/text.h"

#include <gmock/gmock.h>

#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo {
namespace text_test {

using ::tempo::testing::message_of;
using namespace std::string_view_literals;

TEST(Text, ValidUtf8WithoutNulIsText) {
  for (const std::string_view text : {""sv, "a\n\t"sv, "caf\xC3\xA9"sv, "\xE0\xA0\x80"sv, "\xED\x9F\xBF"sv,
                                      "\xEE\x80\x80"sv, "\xF0\x90\x80\x80"sv, "\xF4\x8F\xBF\xBF"sv})
    EXPECT_EQ(find_non_text(text), std::nullopt) << text;
}

TEST(Text, TheFirstByteThatIsNotTextIsFound) {
  const std::pair<std::string_view, size_t> cases[] = {{"\0"sv, 0},
                                                       {"{}\0junk"sv, 2},
                                                       {"caf\xE9"sv, 3},
                                                       {"a\x80"sv, 1},
                                                       {"\xC0\x80"sv, 0},
                                                       {"\xC1\xBF"sv, 0},
                                                       {"\xE0\x9F\xBF"sv, 0},
                                                       {"\xED\xA0\x80"sv, 0},
                                                       {"\xEF\xBF"sv, 0},
                                                       {"\xF0\x8F\xBF\xBF"sv, 0},
                                                       {"\xF4\x90\x80\x80"sv, 0},
                                                       {"\xF5\x80\x80\x80"sv, 0},
                                                       {"a\xC3"sv, 1},
                                                       {"\xC3("sv, 0},
                                                       {"\xFF"sv, 0}};
  for (const auto& [text, at] : cases) EXPECT_EQ(find_non_text(text), at) << text;
}

TEST(Text, TheMessageNamesTheByte) {
  EXPECT_NO_THROW(check_text("caf\xC3\xA9", "data"));
  EXPECT_EQ(message_of<InputError>([] { check_text("c\xE9", "data"); }),
            "data: byte 2 of 2 is not UTF-8, expected text in UTF-8");
  EXPECT_EQ(message_of<InputError>([] { check_text("{}\0junk"sv, "p.json"); }),
            "p.json: byte 3 of 7 is NUL, expected text in UTF-8");
}

TEST(Text, NumbersAreParsedWholeOrRefused) {
  EXPECT_EQ(parse_decimal("-5"), -5);
  EXPECT_EQ(parse_decimal("9223372036854775807"), INT64_MAX);
  EXPECT_EQ(parse_real("1e-3"), 1e-3);
  EXPECT_EQ(parse_real("-2.5"), -2.5);
  for (const std::string_view text : {""sv, " 5"sv, "5 "sv, "+5"sv, "0x10"sv, "5\0"sv, "5x"sv, "nan"sv, "inf"sv,
                                      "-inf"sv, "1e999"sv, "9223372036854775808e999"sv}) {
    EXPECT_EQ(parse_decimal(text), std::nullopt) << text;
    EXPECT_EQ(parse_real(text), std::nullopt) << text;
  }
  EXPECT_EQ(parse_decimal("9223372036854775808"), std::nullopt);
  EXPECT_EQ(parse_decimal("1.5"), std::nullopt);
}

}  // namespace text_test
}  // namespace tempo
