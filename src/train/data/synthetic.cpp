#include "train/data/synthetic.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <span>

#include "base/csprng.h"
#include "tempo/error.h"

namespace tempo::train {
namespace {

constexpr int kSlopes = 5;
constexpr double kDegreesApart = 22.5;
constexpr int kSyntheticClasses = 2 * kSlopes;
constexpr int64_t kMaxSize = 10'000'000;

/// What differs between two images of one class. Lengths are in units of the image's side, angles in radians.
struct Scene {
  double angle, cycles, phase;
  std::array<double, 3> background, amplitude, blob_colour;
  double blob_x, blob_y, blob_radius, noise;
};

double between(Csprng& random, double low, double high) { return low + (high - low) * random.uniform(); }

Scene draw_scene(int label, Csprng& random) {
  constexpr double kDegree = std::numbers::pi / 180.0;
  Scene scene{};
  // The side to which a slope leans is random too: augmentation mirrors images, which must not change their class.
  const double lean = random.coin() ? kDegree : -kDegree;
  scene.angle = (label % kSlopes * kDegreesApart + between(random, -8, 8)) * lean;
  scene.cycles = label < kSlopes ? between(random, 2.2, 3.4) : between(random, 4.6, 6.4);
  scene.phase = between(random, 0, 2 * std::numbers::pi);
  // The grating has a random colour direction of a random contrast; every channel may rise or fall with it.
  double norm = 0;
  for (double& value : scene.amplitude) {
    value = random.normal();
    norm += value * value;
  }
  const double contrast = between(random, 35, 70) / std::sqrt(norm + 1e-9);
  for (double& value : scene.amplitude) value *= contrast;
  for (double& value : scene.background) value = between(random, 80, 175);
  for (double& value : scene.blob_colour) value = between(random, -90, 90);
  scene.blob_x = random.uniform();
  scene.blob_y = random.uniform();
  scene.blob_radius = between(random, 0.08, 0.25);
  scene.noise = between(random, 20, 45);
  return scene;
}

/// About standard normal, from integers alone so that every platform draws the same: four uniform bytes summed.
double cheap_normal(Csprng& random) {
  const uint32_t bits = random.next_u32();
  const auto sum = (bits & 0xFFU) + ((bits >> 8U) & 0xFFU) + ((bits >> 16U) & 0xFFU) + (bits >> 24U);
  constexpr double kMean = 510.0, kStddev = 147.8;  // of the sum of four uniform values 0..255
  return (static_cast<double>(sum) - kMean) / kStddev;
}

void paint(const Scene& scene, int64_t side, Csprng& random, std::span<uint8_t> image) {
  const double along_x = 2 * std::numbers::pi * scene.cycles * std::cos(scene.angle);
  const double along_y = 2 * std::numbers::pi * scene.cycles * std::sin(scene.angle);
  const double sharpness = 1 / (2 * scene.blob_radius * scene.blob_radius);
  const auto pixels = static_cast<size_t>(side * side);
  size_t pixel = 0;
  for (int64_t row = 0; row < side; ++row) {
    const double y = static_cast<double>(row) / static_cast<double>(side);
    for (int64_t column = 0; column < side; ++column, ++pixel) {
      const double x = static_cast<double>(column) / static_cast<double>(side);
      const double wave = std::sin(along_x * x + along_y * y + scene.phase);
      const double dx = x - scene.blob_x, dy = y - scene.blob_y;
      const double blob = std::exp(-(dx * dx + dy * dy) * sharpness);
      for (size_t channel = 0; channel < 3; ++channel) {
        const double value = scene.background[channel] + scene.amplitude[channel] * wave +
                             scene.blob_colour[channel] * blob + scene.noise * cheap_normal(random);
        image[channel * pixels + pixel] = static_cast<uint8_t>(std::clamp(std::lround(value), 0L, 255L));
      }
    }
  }
}

Dataset make_split(const std::string& split, int64_t size, const SecretKey& root, int64_t side) {
  Dataset data;
  data.name = "synthetic/" + split;
  data.channels = 3;
  data.height = data.width = side;
  for (int label = 0; label < kSyntheticClasses; ++label)
    data.class_names.push_back(
        fmt::format("{}-{}deg", label < kSlopes ? "coarse" : "fine", label % kSlopes * kDegreesApart));
  data.mean = {0.5F, 0.5F, 0.5F};
  data.stddev = {0.25F, 0.25F, 0.25F};
  const auto values = static_cast<size_t>(data.image_values());
  data.labels.resize(static_cast<size_t>(size));
  data.images.resize(static_cast<size_t>(size) * values);
  for (size_t i = 0; i < data.labels.size(); ++i) {
    Csprng random(derive_key(root, "synthetic", {split, uint64_t{i}}));
    const int label = static_cast<int>(i % kSyntheticClasses);
    data.labels[i] = static_cast<uint8_t>(label);
    paint(draw_scene(label, random), side, random, std::span(data.images).subspan(i * values, values));
  }
  return data;
}

}  // namespace

DataSplits make_synthetic(int64_t train_size, int64_t test_size, uint64_t seed, int64_t side) {
  for (const int64_t size : {train_size, test_size})
    if (size < 1 || size > kMaxSize)
      throw InputError(fmt::format("synthetic data: {} images, expected 1 to {}", size, kMaxSize));
  if (side < 16 || side > 256)
    throw InputError(fmt::format("synthetic data: images of side {}, expected 16 to 256", side));
  const SecretKey root = key_from_seed_insecure(seed);
  return {make_split("train", train_size, root, side), make_split("test", test_size, root, side)};
}

}  // namespace tempo::train
