#include "offload/decoys.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace tempo::offload {
namespace {

constexpr int64_t kLargestShare = 7;  // one decoy for so many real images, at most

struct Noise {
  int64_t images = 0;
  double energy = 0;
};

Noise plan_noise(double ratio, int64_t images, const obfuscation::TileGeometry& cut) {
  const int64_t rows_per_image = cut.tiles_y * cut.tiles_x;
  const int64_t directions = cut.positions() * cut.channels;
  const int64_t wanted = (directions + rows_per_image - 1) / rows_per_image;
  const int64_t given = std::min(wanted, std::max<int64_t>(images / kLargestShare, 1));
  const double spanned = std::min(1.0, static_cast<double>(given * rows_per_image) / static_cast<double>(directions));
  return {given, spanned < 1 ? std::min(ratio, spanned) : ratio};
}

template <typename T>
void fill(const T* plain, int64_t count, T* noise, int64_t noise_count, double energy, Csprng& random) {
  double squares = 0;
  for (int64_t i = 0; i < count; ++i) squares += static_cast<double>(plain[i]) * static_cast<double>(plain[i]);
  // Gaussian: any other noise would have directions of its own to be found by.
  const double deviation = noise_count > 0 ? std::sqrt(energy * squares / static_cast<double>(noise_count)) : 0;
  for (int64_t i = 0; i < noise_count; ++i) noise[i] = static_cast<T>(deviation * random.normal());
}

}  // namespace

DecoyPlan plan_decoys(const BlindingOptions& options, int64_t images, const obfuscation::ConvTiling& cut) {
  if (options.protection != Protection::kRotated || options.decoys <= 0 || images == 0) return {};
  const Noise input = plan_noise(options.decoys, images, cut.input);
  const Noise output = plan_noise(options.decoys, images, cut.output);
  return {input.images, output.images, input.energy, output.energy};
}

Buffer with_decoys(ConstPlainTensor plain, int64_t images, int64_t per_image, int64_t before, int64_t noisy,
                   int64_t after, double energy, Csprng& random) {
  Buffer out = Buffer::allocate({.type = plain.type, .shape = {images + before + noisy + after, per_image}});
  const size_t image_bytes = static_cast<size_t>(per_image) * element_bytes(plain.type);
  const auto offset = [&](int64_t image) { return out.data() + static_cast<size_t>(image) * image_bytes; };
  std::memcpy(out.data(), plain.data, static_cast<size_t>(images) * image_bytes);
  std::memset(offset(images), 0, static_cast<size_t>(before + noisy + after) * image_bytes);
  std::byte* const noise = offset(images + before);
  if (plain.type == ElementType::kFloat64)
    fill(static_cast<const double*>(plain.data), images * per_image, reinterpret_cast<double*>(noise),
         noisy * per_image, energy, random);
  else
    fill(static_cast<const float*>(plain.data), images * per_image, reinterpret_cast<float*>(noise), noisy * per_image,
         energy, random);
  return out;
}

}  // namespace tempo::offload
