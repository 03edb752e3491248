#include "wire/shm_layout.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <vector>

#include "support/temp_folder.h"
#include "tempo/error.h"
#include "wire/shm_segment.h"

namespace tempo::wire {
namespace shm_layout_test {

using ::testing::HasSubstr;
using testing::message_of;

TEST(ShmRange, HoldsDoesNotOverflow) {
  const ShmRange range = {100, 200};
  EXPECT_TRUE(range.holds(100, 100));
  EXPECT_TRUE(range.holds(200, 0));
  EXPECT_FALSE(range.holds(100, 101));
  EXPECT_FALSE(range.holds(99, 1));
  EXPECT_FALSE(range.holds(201, 0));
  EXPECT_FALSE(range.holds(150, UINT64_MAX));
  EXPECT_FALSE(range.holds(UINT64_MAX, 2));
  EXPECT_FALSE(range.holds(UINT64_MAX - 10, 200));
}

TEST(ShmLayout, AreasFillTheSegmentInOrder) {
  for (const size_t bytes : {kMinSegmentBytes, size_t{64} << 20, kDefaultSegmentBytes}) {
    const ShmLayout layout = ShmLayout::of(bytes);
    EXPECT_GE(layout.operands().begin, 2 * kShmRingBytes);
    EXPECT_EQ(layout.operands().end, layout.replies().begin);
    EXPECT_EQ(layout.replies().end, bytes);
    EXPECT_GT(layout.operands().bytes(), layout.replies().bytes());
    EXPECT_GT(layout.replies().bytes(), 0U);
  }
  EXPECT_THROW(ShmLayout::of(kMinSegmentBytes - 1), InputError);
  EXPECT_THROW(ShmLayout::of(kMinSegmentBytes + 1), InputError);
  EXPECT_THROW(ShmLayout::of(kMaxSegmentBytes * 2), InputError);
}

class ShmHeader : public ::testing::Test {
 protected:
  ShmHeader() { write_shm_header(segment_, layout_); }

  void overwrite(size_t at, uint64_t value, size_t bytes) { std::memcpy(segment_.data() + at, &value, bytes); }
  std::string refusal() {
    return message_of<ProtocolError>([this] { read_shm_header(segment_); });
  }

  ShmLayout layout_ = ShmLayout::of(kMinSegmentBytes);
  std::vector<std::byte> segment_ = std::vector<std::byte>(kMinSegmentBytes);
};

TEST_F(ShmHeader, AWrittenHeaderIsReadBack) {
  const ShmLayout read = read_shm_header(segment_);
  EXPECT_EQ(read.segment_bytes, layout_.segment_bytes);
  EXPECT_EQ(read.operand_bytes, layout_.operand_bytes);
}

TEST_F(ShmHeader, AlteredHeadersAreRefused) {
  overwrite(0, 1, 1);
  EXPECT_THAT(refusal(), HasSubstr("no TEMPOSHM header"));
  write_shm_header(segment_, layout_);
  overwrite(8, 2, 4);
  EXPECT_THAT(refusal(), HasSubstr("got layout version 2, expected 1"));
  write_shm_header(segment_, layout_);
  overwrite(16, kMinSegmentBytes * 2, 8);
  EXPECT_THAT(refusal(), HasSubstr("the header says 33554432 bytes, the segment has 16777216"));
  for (const uint64_t operands : {uint64_t{1}, uint64_t{kMinSegmentBytes}, UINT64_MAX, UINT64_MAX - kShmHugePage + 1}) {
    write_shm_header(segment_, layout_);
    overwrite(24, operands, 8);
    EXPECT_THAT(refusal(), HasSubstr("bytes of operands, expected a multiple"));
  }
  segment_.resize(4096);
  EXPECT_THAT(refusal(), HasSubstr("got a segment of 4096 bytes"));
}

UniqueDescriptor memory_file(size_t bytes, int seals) {
  UniqueDescriptor file(memfd_create("test", MFD_ALLOW_SEALING | MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(file.get(), static_cast<off_t>(bytes)), 0);
  EXPECT_EQ(fcntl(file.get(), F_ADD_SEALS, seals), 0);
  return file;
}

std::string segment_refusal(const UniqueDescriptor& file) {
  return message_of<ProtocolError>([&] { ShmSegment segment(file); });
}

TEST(ShmSegment, TwoMappingsOfOneFileShareMemory) {
  const UniqueDescriptor file = create_shm_file(kMinSegmentBytes);
  const ShmSegment one(file), other(file);
  *one.at(one.layout().operands().begin) = std::byte{7};
  EXPECT_EQ(*other.at(other.layout().operands().begin), std::byte{7});
  EXPECT_NE(ftruncate(file.get(), 4096), 0) << "the seal must hold";
  EXPECT_THROW(create_shm_file(4096), InputError);
}

TEST(ShmSegment, FilesThatCouldShrinkOrHaveABadSizeAreRefused) {
  const testing::TempFolder folder;
  const int shrink = F_SEAL_SHRINK, grow = F_SEAL_GROW;
  EXPECT_THAT(segment_refusal(memory_file(kMinSegmentBytes, 0)), HasSubstr("can change its size"));
  EXPECT_THAT(segment_refusal(memory_file(kMinSegmentBytes, grow)), HasSubstr("can change its size"));
  EXPECT_THAT(segment_refusal(memory_file(kMinSegmentBytes, shrink)), HasSubstr("can change its size"));
  EXPECT_THAT(segment_refusal(memory_file(4096, shrink | grow)), HasSubstr("got a segment of 4096 bytes"));
  EXPECT_THAT(segment_refusal(memory_file(0, shrink | grow)), HasSubstr("got a segment of 0 bytes"));
  EXPECT_THAT(segment_refusal(memory_file(kMinSegmentBytes + 1, shrink | grow)), HasSubstr("expected a multiple"));
  EXPECT_THAT(segment_refusal(memory_file(kMinSegmentBytes, shrink | grow)), HasSubstr("no TEMPOSHM header"));
  const std::filesystem::path path = folder / "file";
  EXPECT_THAT(segment_refusal(UniqueDescriptor(open(path.c_str(), O_RDWR | O_CREAT, 0600))),
              HasSubstr("can change its size"));
  EXPECT_THAT(segment_refusal(UniqueDescriptor()), HasSubstr("can change its size"));
}

TEST(ShmSegment, AFileThatCannotBeWrittenIsRefused) {
  const UniqueDescriptor file = memory_file(kMinSegmentBytes, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE);
  EXPECT_THAT(message_of<RunError>([&] { ShmSegment segment(file); }), HasSubstr("cannot map"));
}

}  // namespace shm_layout_test
}  // namespace tempo::wire
