#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <set>

#include "base/csprng.h"
#include "seal/archive_folder.h"
#include "support/temp_folder.h"
#include "tempo/error.h"
#include "train/data/batches.h"
#include "train/data/cifar.h"
#include "train/data/synthetic.h"

namespace tempo::train {
namespace data_test {

using ::tempo::testing::message_of;
using ::tempo::testing::TempFolder;
using ::tempo::testing::write_bytes;
using ::tempo::testing::write_text;
using ::testing::Contains;
using ::testing::HasSubstr;

using Bytes = std::vector<std::byte>;

constexpr uint64_t kSeed = 7;

/// `labels.size()` records; the planes of record i hold i, i + 1 and i + 2.
Bytes cifar_records(const std::vector<int>& labels) {
  Bytes bytes;
  for (size_t i = 0; i < labels.size(); ++i) {
    bytes.push_back(static_cast<std::byte>(labels[i]));
    for (size_t plane = 0; plane < 3; ++plane) bytes.insert(bytes.end(), 1024, static_cast<std::byte>(i + plane));
  }
  return bytes;
}

struct CifarFolder : TempFolder {
  CifarFolder() {
    write_bytes(*this / "data_batch_1.bin", cifar_records({3, 1}));
    write_bytes(*this / "test_batch.bin", cifar_records({9}));
  }
};

TEST(Cifar, LoadReadsEveryBatchInNumericOrder) {
  const CifarFolder folder;
  write_bytes(folder / "data_batch_10.bin", cifar_records({5}));
  write_bytes(folder / "data_batch_2.bin", cifar_records({4, 0}));
  write_text(folder / "readme.html", "ignored");
  const DataSplits data = load_cifar10(folder.path());
  EXPECT_EQ(data.train.labels, (std::vector<uint8_t>{3, 1, 4, 0, 5}));
  EXPECT_EQ(data.test.labels, (std::vector<uint8_t>{9}));
  EXPECT_EQ(data.train.images.size(), 5U * 3072);
  EXPECT_EQ(data.train.images[3072 + 2 * 1024], 3);  // record 1, blue
  EXPECT_EQ(data.train.channels, 3);
  EXPECT_EQ(data.train.height, 32);
  EXPECT_EQ(data.train.width, 32);
  EXPECT_EQ(data.train.class_names.size(), 10U);
  EXPECT_EQ(data.train.class_names[9], "truck");
  EXPECT_EQ(data.test.name, "cifar10/test");
}

TEST(Cifar, LoadReadsClassNamesFromTheFolder) {
  const CifarFolder folder;
  write_text(folder / "batches.meta.txt", "zero\r\none\ntwo\nthree\n4\n5\n6\n7\n8\nnine\n\n");
  const DataSplits data = load_cifar10(folder.path());
  EXPECT_EQ(data.train.class_names[0], "zero");
  EXPECT_EQ(data.test.class_names[9], "nine");

  const auto refusal = [](const std::string& text) {
    return message_of<InputError>([&] { parse_cifar10_class_names(text, "meta"); });
  };
  EXPECT_EQ(refusal(""), "meta: 0 class names, expected 10");
  EXPECT_EQ(refusal("caf\xE9\nb"), "meta: byte 4 of 6 is not UTF-8, expected text in UTF-8");
  EXPECT_EQ(refusal("a\nb"), "meta: 2 class names, expected 10");
  EXPECT_EQ(refusal("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11"), "meta: more than 10 class names, expected 10");
  EXPECT_EQ(refusal(std::string(65, 'x')), "meta: class name 1 has 65 bytes, expected at most 64");
}

TEST(Cifar, LoadRefusesFoldersWithoutCifarBatches) {
  const TempFolder folder;
  EXPECT_THAT(message_of<InputError>([&] { load_cifar10(folder / "none"); }), HasSubstr("/none: no such folder"));
  EXPECT_THAT(message_of<InputError>([&] { load_cifar10(folder.path()); }), HasSubstr("holds no data_batch_N.bin"));
  write_bytes(folder / "data_batch_1.bin", cifar_records({1}));
  EXPECT_THAT(message_of<InputError>([&] { load_cifar10(folder.path()); }),
              HasSubstr("test_batch.bin: cannot be read"));
  write_text(folder / "data_batch_1x.bin", "");
  EXPECT_THAT(message_of<InputError>([&] { load_cifar10(folder.path()); }),
              HasSubstr("\"data_batch_1x.bin\" has no number, expected data_batch_N.bin"));
}

TEST(Cifar, LoadRefusesFilesWithPartialRecords) {
  const CifarFolder folder;
  Bytes bytes = cifar_records({1, 2, 3});
  bytes.erase(bytes.end() - 10, bytes.end());
  write_bytes(folder / "data_batch_1.bin", bytes);
  EXPECT_THAT(message_of<InputError>([&] { load_cifar10(folder.path()); }),
              HasSubstr("data_batch_1.bin: 9209 bytes are 2 whole records and 3063 bytes left over, "
                        "expected a positive multiple of 3073"));
  write_text(folder / "data_batch_1.bin", "");
  EXPECT_THAT(message_of<InputError>([&] { load_cifar10(folder.path()); }), HasSubstr("0 bytes are 0 whole records"));
}

TEST(Cifar, LoadRefusesLabelsAboveNine) {
  const CifarFolder folder;
  write_bytes(folder / "test_batch.bin", cifar_records({0, 9, 10}));
  EXPECT_THAT(message_of<InputError>([&] { load_cifar10(folder.path()); }),
              HasSubstr("test_batch.bin: record 3 has label 10, expected 0 to 9"));
  Dataset untouched;
  EXPECT_THROW(append_cifar10_records(cifar_records({0, 255}), "memory", untouched), InputError);
  EXPECT_TRUE(untouched.images.empty() && untouched.labels.empty());
}

TEST(Cifar, LoadReadsASealedArchiveDirectly) {
  const CifarFolder folder;
  write_bytes(folder / "data_batch_10.bin", cifar_records({5}));
  write_bytes(folder / "data_batch_2.bin", cifar_records({4, 0}));
  write_text(folder / "batches.meta.txt", "zero\none\ntwo\nthree\n4\n5\n6\n7\n8\nnine\n");
  const TempFolder elsewhere;
  const SecretKey key = key_from_seed_insecure(kSeed);
  seal::seal_path(folder.path(), elsewhere / "x.sealed", key);
  const DataSplits plain = load_cifar10(folder.path());
  const DataSplits sealed = load_cifar10(*open_sealed(elsewhere / "x.sealed", key));
  EXPECT_EQ(sealed.train.images, plain.train.images);
  EXPECT_EQ(sealed.train.labels, plain.train.labels);
  EXPECT_EQ(sealed.test.images, plain.test.images);
  EXPECT_EQ(sealed.test.class_names, plain.test.class_names);
  EXPECT_THAT(elsewhere.names(), ::testing::ElementsAre("x.sealed"));
}

TEST(Cifar, LoadRefusesArchivesWithoutCifarBatches) {
  const CifarFolder folder;
  const TempFolder elsewhere;
  const SecretKey key = key_from_seed_insecure(kSeed);
  const auto refusal = [&](const std::string& name) {
    seal::seal_path(folder.path(), elsewhere / name, key);
    return message_of<InputError>([&] { load_cifar10(*open_sealed(elsewhere / name, key)); });
  };
  std::filesystem::remove(folder / "test_batch.bin");
  EXPECT_THAT(refusal("a"), HasSubstr("a: \"test_batch.bin\": no such file in the archive"));
  write_bytes(folder / "test_batch.bin", cifar_records({11}));
  EXPECT_THAT(refusal("b"), HasSubstr("b: \"test_batch.bin\": record 1 has label 11, expected 0 to 9"));
  std::filesystem::create_directory(folder / "below");
  for (const char* name : {"data_batch_1.bin", "test_batch.bin"})
    std::filesystem::rename(folder / name, folder.path() / "below" / name);
  EXPECT_THAT(refusal("c"), HasSubstr("c: holds no data_batch_N.bin"));
}

TEST(Cifar, LoadReadsTheRealDataSet) {
  const char* folder = std::getenv("TEMPO_CIFAR10");
  if (folder == nullptr || !std::filesystem::is_directory(folder)) {
    std::fprintf(stderr,
                 "\n*** TEMPO_CIFAR10 does not name a folder: the check against REAL CIFAR-10 DID NOT RUN. ***\n\n");
    return;
  }
  const DataSplits data = load_cifar10(folder);
  ASSERT_GE(data.train.size(), 10000);
  ASSERT_GE(data.test.size(), 1000);
  EXPECT_EQ(data.train.class_names[1], "automobile");
  EXPECT_EQ(std::set<uint8_t>(data.train.labels.begin(), data.train.labels.end()).size(), 10U);

  // The constants of the whole set fit: normalised values have about mean 0 and deviation 1.
  const Batches batches(data.train, 1000);
  std::vector<float> images(static_cast<size_t>(batches.rows(0) * data.train.image_values()));
  std::vector<int64_t> labels(1000);
  batches.fill(0, images.data(), labels.data());
  const double mean = std::accumulate(images.begin(), images.end(), 0.0) / static_cast<double>(images.size());
  const double square =
      std::inner_product(images.begin(), images.end(), images.begin(), 0.0) / static_cast<double>(images.size());
  EXPECT_NEAR(mean, 0, 0.1);
  EXPECT_NEAR(std::sqrt(square - mean * mean), 1, 0.1);
}

TEST(Synthetic, ImagesDependOnTheSeedAlone) {
  const DataSplits a = make_synthetic(100, 50, kSeed), b = make_synthetic(100, 50, kSeed);
  EXPECT_EQ(a.train.images, b.train.images);
  EXPECT_EQ(a.test.images, b.test.images);
  EXPECT_NE(a.train.images, make_synthetic(100, 50, kSeed + 1).train.images);
  const DataSplits longer = make_synthetic(120, 50, kSeed);
  EXPECT_TRUE(std::equal(a.train.images.begin(), a.train.images.end(), longer.train.images.begin()));
  EXPECT_FALSE(std::equal(a.test.images.begin(), a.test.images.end(), a.train.images.begin()));
}

TEST(Synthetic, DataHasTenEvenClassesAndTheSizesAskedFor) {
  const DataSplits data = make_synthetic(200, 30, kSeed, 16);
  EXPECT_EQ(data.train.size(), 200);
  EXPECT_EQ(data.test.size(), 30);
  EXPECT_EQ(data.train.images.size(), 200U * 3 * 16 * 16);
  EXPECT_EQ(data.train.class_names.size(), 10U);
  for (uint8_t label = 0; label < 10; ++label)
    EXPECT_EQ(std::count(data.train.labels.begin(), data.train.labels.end(), label), 20);
  EXPECT_EQ(message_of<InputError>([] { make_synthetic(0, 1, kSeed); }),
            "synthetic data: 0 images, expected 1 to 10000000");
  EXPECT_EQ(message_of<InputError>([] { make_synthetic(1, 1, kSeed, 8); }),
            "synthetic data: images of side 8, expected 16 to 256");
}

/// Pairs of pixels a few steps apart agree more, or less, depending on orientation and frequency: the label is there to
/// be found by a filter, while the mean image of a class says next to nothing.
TEST(Synthetic, FiltersRevealTheClassButMeanImagesDoNot) {
  const DataSplits data = make_synthetic(1000, 500, kSeed);
  constexpr std::array<std::array<int, 2>, 12> kShifts = {
      {{1, 0}, {0, 1}, {1, 1}, {1, -1}, {3, 0}, {0, 3}, {3, 3}, {3, -3}, {6, 0}, {0, 6}, {5, 3}, {3, -5}}};
  const auto features = [&](const Dataset& set, int64_t index) {
    std::vector<double> out(kShifts.size() + 1);
    const uint8_t* image = set.images.data() + index * set.image_values();
    for (int channel = 0; channel < 3; ++channel)
      for (int y = 6; y < 26; ++y)
        for (int x = 6; x < 26; ++x)
          for (size_t s = 0; s < kShifts.size(); ++s) {
            const uint8_t* plane = image + channel * 1024;
            const double step = plane[y * 32 + x] - plane[(y + kShifts[s][0]) * 32 + x + kShifts[s][1]];
            out[s] += step * step;
          }
    const double norm = std::accumulate(out.begin(), out.end(), 1e-9);
    for (double& value : out) value /= norm;
    return out;
  };
  const auto pixels = [&](const Dataset& set, int64_t index) {
    const uint8_t* image = set.images.data() + index * set.image_values();
    return std::vector<double>(image, image + set.image_values());
  };
  const auto nearest_mean_accuracy = [&](const auto& view) {
    std::vector<std::vector<double>> means(10, std::vector<double>(view(data.train, 0).size()));
    for (int64_t i = 0; i < data.train.size(); ++i) {
      const auto values = view(data.train, i);
      auto& mean = means[data.train.labels[static_cast<size_t>(i)]];
      for (size_t j = 0; j < values.size(); ++j) mean[j] += values[j] / 100;
    }
    int right = 0;
    for (int64_t i = 0; i < data.test.size(); ++i) {
      const auto values = view(data.test, i);
      std::vector<double> distance(10);
      for (size_t c = 0; c < 10; ++c)
        for (size_t j = 0; j < values.size(); ++j) distance[c] += std::pow(values[j] - means[c][j], 2);
      const auto best = std::min_element(distance.begin(), distance.end()) - distance.begin();
      right += best == data.test.labels[static_cast<size_t>(i)] ? 1 : 0;
    }
    return right / 500.0;
  };
  EXPECT_GT(nearest_mean_accuracy(features), 0.5);
  EXPECT_LT(nearest_mean_accuracy(pixels), 0.3);
}

/// Images that show their own index and place: value = 1 + index, except a mark that tells where a pixel came from.
Dataset small_dataset(int64_t size, int64_t height = 8, int64_t width = 6) {
  Dataset data;
  data.name = "small";
  data.channels = 2;
  data.height = height;
  data.width = width;
  data.class_names.assign(256, "any");
  data.mean = {0.5F, 0.25F, 0};
  data.stddev = {0.5F, 0.25F, 1};
  for (int64_t i = 0; i < size; ++i) {
    data.labels.push_back(static_cast<uint8_t>(i % 251));
    for (int64_t p = 0; p < data.image_values(); ++p)
      data.images.push_back(static_cast<uint8_t>(1 + (i * 7 + p) % 255));
  }
  return data;
}

struct Filled {
  std::vector<float> images;
  std::vector<int64_t> labels;
  friend bool operator==(const Filled&, const Filled&) = default;
};
Filled fill(const Batches& batches, const Dataset& data, int64_t index, ThreadPool* pool = nullptr) {
  const auto rows = static_cast<size_t>(batches.rows(index));
  Filled out{std::vector<float>(rows * static_cast<size_t>(data.image_values())), std::vector<int64_t>(rows)};
  batches.fill(index, out.images.data(), out.labels.data(), pool);
  return out;
}

TEST(Batches, EvaluationKeepsOrderAndIsChannelsLastAndNormalised) {
  const Dataset data = small_dataset(5);
  const Batches batches(data, 2);
  ASSERT_EQ(batches.count(), 3);
  EXPECT_EQ(batches.rows(1), 2);
  EXPECT_EQ(batches.rows(2), 1);
  const Filled filled = fill(batches, data, 1);
  EXPECT_EQ(filled.labels, (std::vector<int64_t>{2, 3}));
  for (int64_t row = 0; row < 2; ++row)
    for (int64_t y = 0; y < 8; ++y)
      for (int64_t x = 0; x < 6; ++x)
        for (int64_t c = 0; c < 2; ++c) {
          const int value = data.images[static_cast<size_t>((((2 + row) * 2 + c) * 8 + y) * 6 + x)];
          const float expected =
              (static_cast<float>(value) / 255.0F - (c == 0 ? 0.5F : 0.25F)) / (c == 0 ? 0.5F : 0.25F);
          ASSERT_FLOAT_EQ(filled.images[static_cast<size_t>(((row * 8 + y) * 6 + x) * 2 + c)], expected);
        }
}

TEST(Batches, AnEpochHoldsEveryImageOnceAndEpochsDiffer) {
  const Dataset data = small_dataset(103);
  const SecretKey root = key_from_seed_insecure(kSeed);
  std::vector<std::vector<int64_t>> orders;
  for (const uint64_t epoch : {0, 1}) {
    const Batches batches(data, root, epoch, 10, true);
    EXPECT_EQ(batches.count(), 11);
    EXPECT_EQ(batches.rows(10), 3);
    std::vector<int64_t> labels, order;
    for (int64_t b = 0; b < batches.count(); ++b) {
      const Filled filled = fill(batches, data, b);
      labels.insert(labels.end(), filled.labels.begin(), filled.labels.end());
    }
    for (int64_t p = 0; p < data.size(); ++p) order.push_back(batches.image_at(p));
    EXPECT_EQ(labels, order);  // image i has label i here
    EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
    orders.push_back(order);
    std::sort(order.begin(), order.end());
    for (int64_t p = 0; p < data.size(); ++p) EXPECT_EQ(order[static_cast<size_t>(p)], p);
  }
  EXPECT_NE(orders[0], orders[1]);
  const Batches other_root(data, key_from_seed_insecure(kSeed + 1), 0, 10, true);
  int same = 0;
  for (int64_t p = 0; p < data.size(); ++p) same += other_root.image_at(p) == orders[0][static_cast<size_t>(p)] ? 1 : 0;
  EXPECT_LT(same, 20);
}

TEST(Batches, ABatchDoesNotDependOnOtherBatchesThreadsOrBatchSize) {
  const Dataset data = small_dataset(64);
  const SecretKey root = key_from_seed_insecure(kSeed);
  const Batches forward(data, root, 3, 16, true), alone(data, root, 3, 16, true), halves(data, root, 3, 8, true);
  std::vector<Filled> all;
  for (int64_t b = 0; b < 4; ++b) all.push_back(fill(forward, data, b));
  ThreadPool pool(3);
  EXPECT_EQ(fill(alone, data, 2), all[2]);
  EXPECT_EQ(fill(alone, data, 0, &pool), all[0]);
  const Filled half = fill(halves, data, 3);
  EXPECT_TRUE(std::equal(half.images.begin(), half.images.end(), all[1].images.begin() + 8 * data.image_values()));
}

/// Every augmented image is the original, shifted by at most 4 with black around it, mirrored or not; all occur.
TEST(Batches, AugmentationCropsAndMirrors) {
  const Dataset data = small_dataset(400);
  const Batches batches(data, key_from_seed_insecure(kSeed), 0, 400, true);
  const Filled filled = fill(batches, data, 0);
  const auto normalised = [](int value, int64_t c) {
    return (static_cast<float>(value) / 255.0F - (c == 0 ? 0.5F : 0.25F)) / (c == 0 ? 0.5F : 0.25F);
  };
  const auto matches = [&](int64_t position, int64_t top, int64_t left, bool mirrored) {
    const int64_t image = batches.image_at(position);
    for (int64_t y = 0; y < 8; ++y)
      for (int64_t x = 0; x < 6; ++x)
        for (int64_t c = 0; c < 2; ++c) {
          const int64_t sy = y + top, sx = (mirrored ? 5 - x : x) + left;
          const bool inside = sy >= 0 && sy < 8 && sx >= 0 && sx < 6;
          const int value = inside ? data.images[static_cast<size_t>(((image * 2 + c) * 8 + sy) * 6 + sx)] : 0;
          if (filled.images[static_cast<size_t>(((position * 8 + y) * 6 + x) * 2 + c)] != normalised(value, c))
            return false;
        }
    return true;
  };
  std::set<int64_t> tops, lefts;
  int mirrors = 0;
  for (int64_t position = 0; position < 400; ++position) {
    int found = 0;
    for (int64_t top = -4; top <= 4; ++top)
      for (int64_t left = -4; left <= 4; ++left)
        for (const bool mirrored : {false, true})
          if (matches(position, top, left, mirrored)) {
            ++found;
            tops.insert(top);
            lefts.insert(left);
            mirrors += mirrored ? 1 : 0;
          }
    ASSERT_EQ(found, 1) << "position " << position;
  }
  EXPECT_EQ(tops.size(), 9U);
  EXPECT_EQ(lefts.size(), 9U);
  EXPECT_NEAR(mirrors, 200, 60);
}

TEST(Batches, BadBatchSizesIndicesAndDataAreRefused) {
  const Dataset data = small_dataset(5);
  EXPECT_EQ(message_of<InputError>([&] { Batches(data, 0); }), "batches: batch size 0, expected at least 1");
  EXPECT_EQ(Batches(data, INT64_MAX).count(), 1);
  EXPECT_EQ(Batches(data, INT64_MAX).rows(0), 5);
  EXPECT_EQ(message_of<InputError>([&] { (void)Batches(data, 2).rows(3); }), "batches: batch 3, expected 0 to 2");
  EXPECT_THROW((void)Batches(data, 2).image_at(5), InputError);

  Dataset bad = small_dataset(5);
  bad.images.pop_back();
  EXPECT_EQ(message_of<InputError>([&] { Batches(bad, 1); }),
            "batches: data set small has 479 bytes of images, expected 5 images of 96");
  bad = small_dataset(5);
  bad.stddev[1] = 0;
  EXPECT_THAT(message_of<InputError>([&] { Batches(bad, 1); }), HasSubstr("has deviation 0 in channel 1"));
  EXPECT_THAT(message_of<InputError>([&] { Batches(Dataset{}, 1); }), HasSubstr("is empty"));
}

}  // namespace data_test
}  // namespace tempo::train
