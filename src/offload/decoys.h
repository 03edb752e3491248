/// Decoy images: noise that is blinded together with the real images of a batch, and drops out of every result.
///
/// A row of X~ mixes many rows of X, and what is left of their statistics is what blind source separation lives on
/// (docs/privacy.md). Images of Gaussian noise among them drown it: with noise of r times the real energy, what is left
/// of fourth moments falls by (1 + r)^2, and the steps that a separation must pool rise by (1 + r)^4.
/// X gets decoys where dY has zeros and the other way round, so dW = X^T dY is exactly that of the real images.
#pragma once

#include <cstdint>

#include "base/csprng.h"
#include "obfuscation/tile_geometry.h"
#include "offload/session.h"

namespace tempo::offload {

/// Real images come first, then those with noise in X, then those with noise in dY.
struct DecoyPlan {
  int64_t in_input = 0, in_output = 0;         ///< images
  double input_energy = 0, output_energy = 0;  ///< of the noise, relative to the real operand's

  [[nodiscard]] int64_t images() const { return in_input + in_output; }
};

/// As many images as it takes for noise in every direction of a row (else a worker could project it out), but no more
/// than a seventh of the batch, and at least one. Where they do not span a row the energy is lowered, so that noise
/// does not stand out. None but under `rotated`: without mixed rows decoys would lie open.
/// @param cut of the real images.
DecoyPlan plan_decoys(const BlindingOptions& options, int64_t images, const obfuscation::ConvTiling& cut);

/// [before + noisy + after, per_image]: zeros, Gaussian noise of `energy` in all, zeros.
Buffer make_decoys(ElementType type, int64_t per_image, int64_t before, int64_t noisy, int64_t after, double energy,
                   Csprng& random);

/// The squared norm of `count` elements.
double squared_norm(ConstPlainTensor x, int64_t count, ThreadPool& threads);

}  // namespace tempo::offload
