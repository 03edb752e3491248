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

constexpr int64_t kLargestShare = 7;  // at most one decoy for this many real images

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

}  // namespace

DecoyPlan plan_decoys(double energy, int64_t images, const obfuscation::ConvTiling& cut) {
  if (energy <= 0 || images == 0) return {};
  const Noise input = plan_noise(energy, images, cut.input);
  const Noise output = plan_noise(energy, images, cut.output);
  return {input.images, output.images, input.energy, output.energy};
}

Buffer make_decoys(ElementType type, int64_t per_image, const DecoyNoise& noise, Csprng& random) {
  const auto& [before, noisy, after, energy, seed] = noise;
  Buffer out = Buffer::allocate({.type = type, .shape = {before + noisy + after, per_image}});
  std::memset(out.data(), 0, out.bytes());
  with_element_type(type, [&](auto element) {
    using T = obfuscation::ElementOf<decltype(element)>;
    const int64_t count = noisy * per_image;
    if (count == 0) return;
    // The noise is Gaussian: other noise has special directions by which it could be found.
    obfuscation::fill_normal(
        random, std::sqrt(energy / static_cast<double>(count)),
        std::span(reinterpret_cast<T*>(out.data()) + before * per_image, static_cast<size_t>(count)));
  });
  return out;
}

double squared_norm(ConstPlainTensor x, int64_t count, ThreadPool& threads) {
  return with_element_type(x.type, [&](auto element) {
    using T = obfuscation::ElementOf<decltype(element)>;
    constexpr int64_t kPiece = 1024;
    const T* const values = static_cast<const T*>(x.data);
    const T* const no_vectors = nullptr;
    T* const no_planes = nullptr;
    const int64_t whole = count / kPiece * kPiece;
    return integrity::project(values, whole / kPiece, kPiece, no_vectors, 0, no_planes, threads) +
           integrity::project(values + whole, count - whole, 1, no_vectors, 0, no_planes, threads);
  });
}

}  // namespace tempo::offload
