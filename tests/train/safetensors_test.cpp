#include "train/formats/safetensors.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cstring>

#include "base/byte_reader.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::train {
namespace safetensors_test {

using ::tempo::testing::message_of;
using ::tempo::testing::to_bytes;
using ::testing::HasSubstr;

using Bytes = std::vector<std::byte>;

Bytes file_of(const std::string& header, size_t data_bytes) {
  Bytes bytes;
  append_u64(bytes, header.size());
  const Bytes text = to_bytes(header);
  bytes.insert(bytes.end(), text.begin(), text.end());
  for (size_t i = 0; i < data_bytes; ++i) bytes.push_back(static_cast<std::byte>(i));
  return bytes;
}

Bytes written(std::span<const TensorEntry> entries, const SafetensorsMetadata& metadata = {}) {
  Bytes out;
  write_safetensors([&](std::span<const std::byte> piece) { out.insert(out.end(), piece.begin(), piece.end()); },
                    entries, metadata);
  return out;
}

/// The message without the name of the source.
std::string refusal(const std::string& header, size_t data_bytes) {
  const std::string message = message_of<InputError>([&] { parse_safetensors(file_of(header, data_bytes), "f"); });
  EXPECT_TRUE(message.starts_with("f: ")) << message;
  return message.substr(std::min<size_t>(3, message.size()));
}

TEST(Safetensors, EveryTypeAndShapeRoundTrips) {
  const Bytes data(64, std::byte{0x5A});
  const auto span = [&](size_t bytes) { return std::span(data).first(bytes); };
  const std::vector<TensorEntry> entries = {{"bytes", "U8", {3}, span(3)},     {"flags", "BOOL", {5, 1}, span(5)},
                                            {"half", "BF16", {2, 2}, span(8)}, {"weight", "F32", {2, 3}, span(24)},
                                            {"scalar", "F64", {}, span(8)},    {"step", "I64", {1}, span(8)},
                                            {"none", "F32", {4, 0, 2}, {}},    {"ünï\"\n", "U8", {1}, span(1)}};
  const SafetensorsMetadata metadata = {{"format", "tempo"}, {"epoch", "3"}};
  const SafetensorsFile file = parse_safetensors(written(entries, metadata), "memory");
  EXPECT_EQ(file.metadata(), metadata);
  ASSERT_EQ(file.entries().size(), entries.size());
  for (const TensorEntry& entry : entries) {
    SCOPED_TRACE(entry.name);
    const TensorEntry* found = file.find(entry.name);
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->dtype, entry.dtype);
    EXPECT_EQ(found->shape, entry.shape);
    EXPECT_TRUE(std::equal(found->data.begin(), found->data.end(), entry.data.begin(), entry.data.end()));
  }
  EXPECT_EQ(file.find("absent"), nullptr);
}

TEST(Safetensors, EveryTensorIsAlignedToItsElements) {
  const Bytes data(64);
  for (const size_t name_bytes : {1, 2, 3, 4, 5, 6, 7, 8}) {
    const std::vector<TensorEntry> entries = {{std::string(name_bytes, 'a'), "U8", {3}, std::span(data).first(3)},
                                              {"b", "F32", {1}, std::span(data).first(4)},
                                              {"c", "F64", {2}, std::span(data).first(16)},
                                              {"d", "BF16", {1}, std::span(data).first(2)}};
    const Bytes bytes = written(entries);
    ByteReader reader(bytes, "memory");
    const uint64_t header = reader.u64();
    EXPECT_EQ(header % 8, 0U);
    EXPECT_EQ(reader.text(1), "{");
    size_t offset = 8 + header;
    const SafetensorsFile file = parse_safetensors(bytes, "memory");
    for (const auto& [name, width] : {std::pair("c", 8), {"b", 4}, {"d", 2}}) {
      EXPECT_EQ(offset % static_cast<size_t>(width), 0U);
      offset += file.find(name)->data.size();
    }
  }
}

TEST(Safetensors, AFileWrittenByTheReferenceImplementationIsRead) {
  // As the reference implementation lays it out: keys in any order, spaces as padding.
  Bytes bytes = file_of(R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]},)"
                        R"("a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}    )",
                        10);
  SafetensorsFile file = parse_safetensors(std::move(bytes), "elsewhere");
  const SafetensorsFile moved = std::move(file);
  ASSERT_EQ(moved.entries().size(), 2U);
  EXPECT_EQ(moved.entries()[0].name, "a");
  EXPECT_EQ(moved.entries()[1].name, "b");
  EXPECT_EQ(moved.find("b")->data[0], std::byte{2});
  EXPECT_EQ(moved.metadata().at("format"), "pt");
  EXPECT_TRUE(parse_safetensors(file_of("{}", 0), "empty").entries().empty());
  EXPECT_TRUE(parse_safetensors(written({}), "empty").entries().empty());
}

TEST(Safetensors, AWrittenFileHasExactlyTheExpectedBytes) {
  const Bytes data = to_bytes("abcd");
  const std::vector<TensorEntry> entries = {{"w", "F32", {1}, data}};
  const std::string header = R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  Bytes expected = file_of(header + std::string((8 - header.size() % 8) % 8, ' '), 0);
  expected.insert(expected.end(), data.begin(), data.end());
  EXPECT_EQ(written(entries), expected);
}

TEST(Safetensors, BadHeaderLengthsAreRefused) {
  const auto refused = [](const Bytes& bytes) {
    return message_of<InputError>([&] { parse_safetensors(bytes, "f"); });
  };
  EXPECT_EQ(refused(Bytes(7)), "f: cut short: 8 bytes wanted at offset 0, 7 left");
  Bytes bytes = file_of("{}", 0);
  bytes[0] = std::byte{3};
  EXPECT_EQ(refused(bytes), "f: safetensors header of 3 bytes, expected at most 2");
  bytes[7] = std::byte{0xFF};
  EXPECT_EQ(refused(bytes), "f: safetensors header of 18374686479671623683 bytes, expected at most 2");
  Bytes large(8 + kMaxSafetensorsHeaderBytes + 1, std::byte{' '});
  const Bytes length = [] {
    Bytes out;
    append_u64(out, kMaxSafetensorsHeaderBytes + 1);
    return out;
  }();
  std::copy(length.begin(), length.end(), large.begin());
  EXPECT_EQ(refused(large), "f: safetensors header of 100000001 bytes, expected at most 100000000");
}

TEST(Safetensors, HeadersThatAreNotAJsonObjectAreRefused) {
  EXPECT_THAT(refusal("", 0), HasSubstr("expected it to begin with an opening brace"));
  EXPECT_THAT(refusal(" {}", 0), HasSubstr("expected it to begin with an opening brace"));
  EXPECT_THAT(refusal("[]", 0), HasSubstr("expected it to begin with an opening brace"));
  EXPECT_THAT(refusal("{", 0), HasSubstr("no valid JSON at its byte"));
  EXPECT_THAT(refusal("{}x", 0), HasSubstr("no valid JSON at its byte 3"));
  EXPECT_EQ(refusal("{\"\xff\":{}}", 0), "safetensors header: byte 3 of 8 is not UTF-8, expected text in UTF-8");
  EXPECT_EQ(refusal(std::string("{}\0junk", 7), 0), "safetensors header: byte 3 of 7 is NUL, expected text in UTF-8");
  EXPECT_EQ(refusal(R"({"a":1})", 0), R"(safetensors header: tensor "a" holds a number where an object is expected)");
  EXPECT_THAT(refusal(R"({"a":[[[[]]]]})", 0), HasSubstr("holds an array where an object is expected"));
  EXPECT_THAT(refusal(R"({"a":null})", 0), HasSubstr("holds null where an object is expected"));
  EXPECT_THAT(refusal(R"({"a":true})", 0), HasSubstr("holds true or false where an object is expected"));
  EXPECT_THAT(refusal(R"({"a":"x"})", 0), HasSubstr("holds a string where an object is expected"));
}

TEST(Safetensors, BadTensorFieldsAreRefused) {
  const auto tensor = [](const std::string& fields) { return refusal("{\"a\":{" + fields + "}}", 4); };
  EXPECT_EQ(tensor(""), R"(safetensors header: tensor "a" has no dtype, expected dtype, shape and data_offsets)");
  EXPECT_THAT(tensor(R"("dtype":"F32")"), HasSubstr("has no shape"));
  EXPECT_THAT(tensor(R"("dtype":"F32","shape":[1])"), HasSubstr("has no data_offsets"));
  EXPECT_THAT(tensor(R"("dtype":"F32","dtype":"F32")"), HasSubstr("has dtype twice"));
  EXPECT_THAT(tensor(R"("strides":[1])"), HasSubstr("has a field \"strides\""));
  EXPECT_THAT(tensor(R"("dtype":7)"), HasSubstr("holds a number where a string is expected"));
  EXPECT_THAT(tensor(R"("shape":"x")"), HasSubstr("holds a string where an array is expected"));
  EXPECT_THAT(tensor(R"("shape":{})"), HasSubstr("holds an object where an array is expected"));
  EXPECT_THAT(tensor(R"("shape":[-1])"), HasSubstr("holds a negative number where a whole number is expected"));
  EXPECT_THAT(tensor(R"("shape":[1.5])"), HasSubstr("holds a fraction"));
  EXPECT_THAT(tensor(R"("shape":[99999999999999999999])"), HasSubstr("a number beyond 2^64"));
  EXPECT_THAT(tensor(R"("shape":[9223372036854775808])"), HasSubstr("expected at most 2^63 - 1"));
  EXPECT_THAT(tensor(R"("shape":[[1]])"), HasSubstr("holds an array where a whole number is expected"));
  EXPECT_THAT(tensor(R"("shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1])"), HasSubstr("more than 16 extents"));
  EXPECT_THAT(tensor(R"("data_offsets":[0])"), HasSubstr("has 1 data_offsets, expected 2"));
  EXPECT_THAT(tensor(R"("data_offsets":[0,1,2])"), HasSubstr("has more than 2 data_offsets"));
}

TEST(Safetensors, RepeatedNamesAndBadMetadataAreRefused) {
  const std::string empty = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  EXPECT_EQ(refusal("{\"a\":" + empty + ",\"a\":" + empty + "}", 0), R"(safetensors header: "a" stands there twice)");
  EXPECT_THAT(refusal("{\"\":" + empty + "}", 0), HasSubstr("tensor \"\" has no name"));
  EXPECT_THAT(refusal(R"({"__metadata__":{},"__metadata__":{}})", 0), HasSubstr("stands there twice"));
  EXPECT_THAT(refusal(R"({"__metadata__":{"k":"1","k":"2"}})", 0), HasSubstr("__metadata__ has \"k\" twice"));
  EXPECT_THAT(refusal(R"({"__metadata__":{"k":1}})", 0), HasSubstr("__metadata__ holds a number where a string"));
  EXPECT_THAT(refusal(R"({"__metadata__":{"k":{}}})", 0), HasSubstr("__metadata__ holds an object where a string"));
}

TEST(Safetensors, SizesThatDoNotMatchTheDataAreRefused) {
  const auto tensor = [](const char* name, const char* dtype, const char* shape, uint64_t begin, uint64_t end) {
    return fmt::format(R"("{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", name, dtype, shape, begin, end);
  };
  const auto one = [&](const char* dtype, const char* shape, uint64_t begin, uint64_t end, size_t data) {
    return refusal("{" + tensor("a", dtype, shape, begin, end) + "}", data);
  };
  EXPECT_EQ(one("I8", "4", 0, 4, 4), R"(tensor "a" has dtype "I8", expected F32, F64, F16, BF16, I64, U8 or BOOL)");
  EXPECT_EQ(one("F16", "3", 0, 4, 4), R"(tensor "a" has 4 bytes, its shape F16[3] needs 6)");
  EXPECT_EQ(one("F32", "2", 0, 4, 4), R"(tensor "a" has 4 bytes, its shape F32[2] needs 8)");
  EXPECT_EQ(one("F32", "1", 0, 8, 4), R"(tensor "a" has data_offsets 0 to 8, expected them in order within 4 bytes)");
  EXPECT_THAT(one("F32", "1", 4, 0, 4), HasSubstr("has data_offsets 4 to 0"));
  EXPECT_THAT(one("U8", "4", 1, 5, 5),
              HasSubstr("begins at 1, expected 0: tensors must neither overlap nor leave gaps"));
  EXPECT_THAT(one("F32", "9223372036854775807,4", 0, 4, 4), HasSubstr("which has no size in bytes"));
  EXPECT_EQ(one("F32", "1", 0, 4, 5), "5 bytes of tensors, the header describes 4");
  EXPECT_EQ(refusal("{}", 1), "1 bytes of tensors, the header describes 0");

  const auto two = [&](uint64_t begin, uint64_t end) {
    return refusal("{" + tensor("a", "U8", "4", 0, 4) + "," + tensor("b", "U8", "4", begin, end) + "}", 8);
  };
  EXPECT_THAT(two(3, 7), HasSubstr("\"b\" begins at 3, expected 4"));
  EXPECT_THAT(two(0, 4), HasSubstr("\"b\" begins at 0, expected 4"));
  EXPECT_THAT(two(5, 8), HasSubstr("\"b\" begins at 5, expected 4"));
}

TEST(Safetensors, NamesFromAFileStayOnOneLine) {
  EXPECT_EQ(refusal(R"({"a\n\u001b[2J":7})", 0),
            R"(safetensors header: tensor "a\x0a\x1b[2J" holds a number where an object is expected)");
}

TEST(Safetensors, TensorsThatNobodyCouldReadAreNotWritten) {
  const Bytes data(8);
  const auto refused = [&](const std::vector<TensorEntry>& entries) {
    return message_of<InputError>([&] { written(entries); });
  };
  EXPECT_EQ(refused({{"a", "F32", {3}, data}}), R"(safetensors: tensor "a" has 8 bytes, its shape F32[3] needs 12)");
  EXPECT_THAT(refused({{"a", "F32", {-1}, data}}), HasSubstr("has no size in bytes"));
  EXPECT_THAT(refused({{"a", "I8", {8}, data}}), HasSubstr("has dtype \"I8\", expected F32"));
  EXPECT_THAT(refused({{"", "F32", {2}, data}}), HasSubstr("a name that the format does not allow"));
  EXPECT_THAT(refused({{"__metadata__", "F32", {2}, data}}), HasSubstr("a name that the format does not allow"));
  EXPECT_THAT(refused({{"a", "F32", {2}, data}, {"a", "F32", {2}, data}}), HasSubstr("is given twice"));
  EXPECT_THAT(refused({{"a", "F32", std::vector<int64_t>(17, 1), data}}), HasSubstr("17 extents, expected at most 16"));
  EXPECT_THAT(refused({{"\xff", "F32", {2}, data}}), HasSubstr("not valid UTF-8"));
}

}  // namespace safetensors_test
}  // namespace tempo::train
