/// Decoy images: noise that is blinded together with the real images of a batch, and drops out of every result.
///
/// A row of X~ mixes many rows of X. Blind source separation lives on what is left of their statistics
/// (docs/privacy.md), and images of Gaussian noise among the real ones drown it. With noise of r times the real energy,
/// what is left of fourth moments falls by (1 + r)^2, and the steps that a separation must pool rise by (1 + r)^4.
/// X has decoys where dY has zeros and the other way round, so dW = X^T dY is exactly the gradient of the real images.
#pragma once

#include <cstdint>

#include "base/csprng.h"
#include "obfuscation/tile_geometry.h"
#include "offload/exchange.h"

namespace tempo::offload {

/// How many decoys a batch gets, and how strong they are. The real images come first in the batch, then images with
/// noise in X, then images with noise in dY.
struct DecoyPlan {
  int64_t in_input = 0, in_output = 0;         ///< number of images with noise
  double input_energy = 0, output_energy = 0;  ///< energy of the noise, relative to that of the real operand

  [[nodiscard]] int64_t images() const { return in_input + in_output; }
};

/// Plans decoys. Their number is what it takes for noise in every direction of a row, since a worker could otherwise
/// project the noise out; it is at most a seventh of the batch, but at least one. If the decoys do not span a row,
/// their energy is lowered so that the noise does not stand out.
/// @param energy what the protection asks for (`Protection::decoy_energy`).
/// @param cut the tiling of the real images.
DecoyPlan plan_decoys(double energy, int64_t images, const obfuscation::ConvTiling& cut);

/// Returns the images of `noise`, [images, per_image]: zeros, Gaussian noise from `random`, zeros.
Buffer make_decoys(ElementType type, int64_t per_image, const DecoyNoise& noise, Csprng& random);

/// The squared norm of the first `count` elements of `x`.
double squared_norm(ConstPlainTensor x, int64_t count, ThreadPool& threads);

}  // namespace tempo::offload
