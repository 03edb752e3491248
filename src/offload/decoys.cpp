#include "offload/decoys.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <type_traits>

#include "integrity/projection.h"
#include "obfuscation/noise.h"

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
double squared_norm(const T* x, int64_t count, ThreadPool& threads) {
  constexpr int64_t kPiece = 1024;
  const int64_t whole = count / kPiece * kPiece;
  const T* const no_vectors = nullptr;
  T* const no_planes = nullptr;
  return integrity::project(x, whole / kPiece, kPiece, no_vectors, 0, no_planes, threads) +
         integrity::project(x + whole, count - whole, 1, no_vectors, 0, no_planes, threads);
}

}  // namespace

DecoyPlan plan_decoys(const BlindingOptions& options, int64_t images, const obfuscation::ConvTiling& cut) {
  if (options.protection != Protection::kRotated || options.decoys <= 0 || images == 0) return {};
  const Noise input = plan_noise(options.decoys, images, cut.input);
  const Noise output = plan_noise(options.decoys, images, cut.output);
  return {input.images, output.images, input.energy, output.energy};
}

Buffer with_decoys(ConstPlainTensor plain, int64_t images, int64_t per_image, int64_t before, int64_t noisy,
                   int64_t after, double energy, Csprng& random, ThreadPool& threads) {
  Buffer out = Buffer::allocate({.type = plain.type, .shape = {images + before + noisy + after, per_image}});
  const size_t image_bytes = static_cast<size_t>(per_image) * element_bytes(plain.type);
  const auto offset = [&](int64_t image) { return out.data() + static_cast<size_t>(image) * image_bytes; };
  std::memcpy(out.data(), plain.data, static_cast<size_t>(images) * image_bytes);
  std::memset(offset(images), 0, static_cast<size_t>(before + noisy + after) * image_bytes);
  if (noisy * per_image == 0) return out;
  with_element_type(plain.type, [&](auto element) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(element)>>;
    const auto count = static_cast<size_t>(noisy * per_image);
    const double squares = squared_norm(static_cast<const T*>(plain.data), images * per_image, threads);
    // Gaussian: any other noise would have directions of its own to be found by.
    obfuscation::fill_normal(random, std::sqrt(energy * squares / static_cast<double>(count)),
                             std::span(reinterpret_cast<T*>(offset(images + before)), count));
  });
  return out;
}

}  // namespace tempo::offload
