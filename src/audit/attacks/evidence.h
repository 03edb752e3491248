/// What a patient worker pools over all recorded steps whose keys it can relate: what attacks 21 to 25 work on.
#pragma once

#include <cstdint>
#include <vector>

#include "audit/algebra/gram_key.h"
#include "audit/attack.h"
#include "audit/case.h"

namespace tempo::audit {

/// All of it is under the keys M and R of the first recorded step. Steps under later keys are turned back by aligning
/// W~ of the first step under a key with W~ of the step before it, which is nearly the same weight
/// (algebra/alignment.h; attack 11 shows how well that works).
struct Evidence {
  /// dW~ by step and tap, [out, in]: R^T dW_k M. Each step is scaled to a mean square of 1. Empty under reuse=none,
  /// where they have keys of their own.
  std::vector<Matrix> gradients;
  /// By step, the symmetric part of sum_k W~_k dW~_k^T, [out, out]: R^T (..) R, at unit norm.
  std::vector<Matrix> scale_products;
  /// Mean over rows of X~^T X~, [positions * channels]^2, less the decoys' share, which is white and whose energy is
  /// public. Rows cancel, however deeply they are mixed.
  Matrix products;
  int64_t channels = 0;
  int steps = 0;  ///< pooled
  int keys = 0;   ///< that they were under

  [[nodiscard]] int64_t positions() const { return channels == 0 ? 0 : products.rows() / channels; }
  /// Covariance between channels at two positions of a tile, about zero: M^T E[x_p x_q^T] M.
  [[nodiscard]] Matrix between(int64_t p, int64_t q) const {
    return products.block(p * channels, q * channels, channels, channels);
  }
};
/// Keys are related where a weight has several taps; else steps under the first key are pooled alone.
Evidence pool_evidence(const LayerCase& layer);

/// Gradients of kernels by output channel and tap with R undone, each channel's of a step at the same length: [n, in].
/// @param right  its rows are those of R in any order and sign
Matrix kernel_gradients(const Evidence& evidence, const Matrix& right, int64_t taps);

/// What `match_grams` compares, of mean products: the Gram matrix over all positions, then of some pairs of positions
/// that of their difference and their product.
GramMatrices grams_from_products(const Matrix& products, int64_t channels, int pairs);

/// Orthogonal K with  seen.products ~ K^T known K  at all pairs of positions (algebra/gram_key.h), whitened more or
/// less strongly; the K that explains `seen` best wins.
Matrix key_between(const Matrix& known, const Evidence& seen, Random& random);

/// Takes the decoys' share off the mean products of rows of which `energy` parts are white noise to one part of signal.
void take_off_decoys(Matrix& products, int64_t channels, double energy);

/// Scores directions against the rows of a key: median |cos| of rows matched one to one.
/// Chance is the same guess against fresh, uniformly random keys: an estimator that turns with its data guesses alike
/// on data under fresh keys, so this is its own null. Where the key keeps directions, as permuted keys do, chance is
/// the guess that it is the identity.
Finding key_finding(Finding about, const Matrix& guess, const Matrix& key, Random& random);

}  // namespace tempo::audit
