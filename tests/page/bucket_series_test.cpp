#include "page/bucket_series.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

namespace tempo::page {
namespace bucket_series_test {

using nlohmann::json;

constexpr std::array<std::string_view, 2> kFields = {"loss", "workers"};
const double kNone = std::nan("");

json parsed(const BucketSeries& series, size_t from = 0) { return json::parse(series.to_json(from)); }

TEST(BucketSeries, FewStepsAreKeptAsTheyAre) {
  BucketSeries series(kFields);
  series.add(1, std::array{2.5, kNone});
  series.add(2, std::array{2.0, kNone});
  series.add(5, std::array{kNone, kNone});
  const json found = parsed(series);
  EXPECT_EQ(found["width"], 1);
  EXPECT_EQ(found["step"], json({1, 2, 5}));
  EXPECT_EQ(found["columns"]["loss"]["mean"], json({2.5, 2.0, nullptr}));
  EXPECT_FALSE(found["columns"]["loss"].contains("least"));
  EXPECT_FALSE(found["columns"].contains("workers")) << "no value at all";
  EXPECT_EQ(found["totals"], json({{"loss", 4.5}}));
}

TEST(BucketSeries, AMillionStepsAreBoundedAndOnePeakIsStillSeen) {
  constexpr int64_t kSteps = 1'000'000, kPeak = 777'777;
  BucketSeries series(kFields);
  for (int64_t step = 1; step <= kSteps; ++step) series.add(step, std::array{step == kPeak ? 100.0 : 1.0, 2.0});
  EXPECT_LE(series.size(), BucketSeries::kMostBuckets);
  EXPECT_GT(series.size(), BucketSeries::kMostBuckets / 4);
  const json found = parsed(series);
  EXPECT_LT(series.to_json(0).size(), 200'000U);
  const auto greatest = found["columns"]["loss"]["greatest"].get<std::vector<double>>();
  EXPECT_EQ(*std::max_element(greatest.begin(), greatest.end()), 100);
  const auto at = std::max_element(greatest.begin(), greatest.end()) - greatest.begin();
  EXPECT_GE(found["step"][at].get<int64_t>(), kPeak);
  EXPECT_EQ(found["step"].back(), kSteps);
  EXPECT_NEAR(found["totals"]["loss"].get<double>(), kSteps + 99, 1);
  EXPECT_EQ(found["totals"]["workers"], 2 * kSteps);
}

TEST(BucketSeries, StepsFarApartAreBoundedToo) {
  BucketSeries series(kFields);
  for (int64_t i = 1; i < int64_t{1} << 52; i += i / 100 + 1) series.add(i, std::array{1.0, kNone});
  EXPECT_LE(series.size(), BucketSeries::kMostBuckets);
}

TEST(BucketSeries, AReaderGetsOnlyWhatIsNew) {
  BucketSeries series(kFields);
  for (int64_t step = 1; step <= 4; ++step) series.add(step, std::array{1.0 * static_cast<double>(step), kNone});
  const json found = parsed(series, 3);
  EXPECT_EQ(found["from"], 3);
  EXPECT_EQ(found["step"], json({4}));
  EXPECT_EQ(found["columns"]["loss"]["mean"], json({4}));
  EXPECT_EQ(parsed(series, 99)["step"], json::array()) << "a reader who is ahead gets nothing";
}

TEST(BucketSeries, WhatIsCutIsGone) {
  BucketSeries series(kFields);
  for (int64_t step = 1; step <= 10; ++step) series.add(step, std::array{1.0, kNone});
  const uint64_t before = series.changes();
  series.cut(4);
  EXPECT_GT(series.changes(), before);
  EXPECT_EQ(series.last_step(), 4);
  EXPECT_EQ(parsed(series)["step"], json({1, 2, 3, 4}));
  series.add(5, std::array{9.0, kNone});
  EXPECT_EQ(parsed(series)["columns"]["loss"]["mean"].back(), 9);
  series.cut(0);
  EXPECT_EQ(series.size(), 0U);
}

}  // namespace bucket_series_test
}  // namespace tempo::page
