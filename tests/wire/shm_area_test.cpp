#include "wire/shm_area.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <thread>

namespace tempo::wire {
namespace shm_area_test {

using std::chrono::milliseconds;
constexpr uint64_t kSeed = 1;
constexpr milliseconds kNow{0};

TEST(ShmArea, AFootprintIsWholeCacheLinesAndNeverOverflows) {
  EXPECT_EQ(shm_footprint(0), 64U);
  EXPECT_EQ(shm_footprint(1), 64U);
  EXPECT_EQ(shm_footprint(64), 64U);
  EXPECT_EQ(shm_footprint(65), 128U);
  EXPECT_GE(shm_footprint(UINT64_MAX - 3), UINT64_MAX - 63);
}

TEST(ShmArea, AnAreaCanBeFilledExactlyAndFreedRangesAreMerged) {
  ShmArea area({640, 640 + 256});
  EXPECT_EQ(area.allocate(64, kNow), 640U);
  EXPECT_EQ(area.allocate(1, kNow), 704U);
  EXPECT_EQ(area.allocate(128, kNow), 768U);
  EXPECT_EQ(area.allocate(0, kNow), std::nullopt);
  EXPECT_EQ(area.used(), 256U);
  EXPECT_TRUE(area.release(640));
  EXPECT_TRUE(area.release(768));
  EXPECT_EQ(area.allocate(192, kNow), std::nullopt) << "in two pieces";
  EXPECT_TRUE(area.release(704));
  EXPECT_EQ(area.allocate(256, kNow), 640U);
}

TEST(ShmArea, OnlyAllocatedRangesAreReleased) {
  ShmArea area({0, 256});
  EXPECT_FALSE(area.release(0));
  EXPECT_EQ(area.allocate(128, kNow), 0U);
  EXPECT_FALSE(area.release(64));
  EXPECT_FALSE(area.release(UINT64_MAX));
  EXPECT_TRUE(area.release(0));
  EXPECT_FALSE(area.release(0));
}

TEST(ShmArea, AllocationWaitsForMemoryUpToItsPatience) {
  ShmArea area({0, 128});
  ASSERT_TRUE(area.allocate(128, kNow));
  EXPECT_EQ(area.allocate(64, milliseconds(20)), std::nullopt);
  std::thread releasing([&] {
    std::this_thread::sleep_for(milliseconds(20));
    EXPECT_TRUE(area.release(0));
  });
  EXPECT_EQ(area.allocate(64, milliseconds(10'000)), 0U);
  releasing.join();
}

TEST(ShmArea, AnAllocationLargerThanTheAreaFailsAtOnce) {
  ShmArea area({0, 128});
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(area.allocate(129, milliseconds(10'000)), std::nullopt);
  EXPECT_EQ(area.allocate(UINT64_MAX, milliseconds(10'000)), std::nullopt);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(ShmArea, ClosingEndsTheWaitForMemory) {
  ShmArea area({0, 128});
  ASSERT_TRUE(area.allocate(128, kNow));
  std::thread closing([&] {
    std::this_thread::sleep_for(milliseconds(20));
    area.close();
  });
  EXPECT_EQ(area.allocate(64, milliseconds(60'000)), std::nullopt);
  closing.join();
}

TEST(ShmArea, AllocationsNeverOverlap) {
  SCOPED_TRACE(kSeed);
  std::mt19937_64 random(kSeed);
  ShmArea area({4096, 4096 + 1'000'000});
  std::map<uint64_t, uint64_t> given;  // offset -> end
  for (int i = 0; i < 20'000; ++i) {
    if (random() % 2 == 0 && !given.empty()) {
      const auto victim = std::next(given.begin(), static_cast<long>(random() % given.size()));
      ASSERT_TRUE(area.release(victim->first));
      given.erase(victim);
    } else if (const uint64_t bytes = random() % 20'000; const auto offset = area.allocate(bytes, kNow)) {
      const auto [at, is_new] = given.emplace(*offset, *offset + shm_footprint(bytes));
      ASSERT_TRUE(is_new);
      if (at != given.begin()) {
        ASSERT_LE(std::prev(at)->second, at->first);
      }
      if (std::next(at) != given.end()) {
        ASSERT_LE(at->second, std::next(at)->first);
      }
      ASSERT_LE(at->second, 4096U + 1'000'000U);
    }
  }
  for (const auto& [offset, end] : given) ASSERT_TRUE(area.release(offset));
  EXPECT_EQ(area.used(), 0U);
  EXPECT_TRUE(area.allocate(999'936, kNow));
}

}  // namespace shm_area_test
}  // namespace tempo::wire
