/// Channel directions from blinded samples, pooled over steps: what attack 12 and its plot share.
#pragma once

#include <vector>

#include "audit/attack.h"
#include "audit/case.h"

namespace tempo::audit {

/// Score of the attack at 1, 2, 4, 8, ... pooled steps, up to what was recorded under the first step's key.
struct PoolingPoints {
  std::vector<double> steps, score;
  double chance = 0;
};
/// About a second a point. Empty if there is nothing to separate.
PoolingPoints pool_channel_directions(const LayerCase& layer, Random& random);

/// X~ of one step, and the map from its channels to those of the first step's key (0x0: the identity).
struct PooledStep {
  const Operand* x = nullptr;
  Matrix turn;
};
/// Samples for separation: the difference of a position and its neighbour in the tile, which takes away what all
/// channels share, the mean of a mixed row; the value itself where a tile has one position. Evenly spread over steps,
/// rows and positions; no more than `most`, or than FastICA gets through in about `patience` seconds.
Matrix separation_samples(const std::vector<PooledStep>& steps, int64_t most, Random& random, double patience = 1);
/// How many such samples one operand has.
int64_t separation_sample_count(const Operand& x);

/// The attack: FastICA. Directions of keys are orthogonal to each other in every scheme, which the attacker knows, so
/// the answer is made orthogonal. @returns [k, d], orthonormal rows; k = 0 if samples do not vary.
Matrix channel_directions(const Matrix& samples, Random& random, double patience = 1);

/// Mean over channels of the excess kurtosis, about zero: `m4 / m2^2 - 3`.
double excess_kurtosis(const Matrix& samples);

/// Independent samples after which the median |cos| of `channel_directions` passes 0.9, where every sample is a mixture
/// of `rows_mixed` plain samples of this excess kurtosis. Calibration: see the definition.
double samples_to_win(int64_t channels, double rows_mixed, double kurtosis);

/// True keys are only compared to learn when they change. A worker sees that: new keys mean that weights are sent
/// again.
bool same_key(const Matrix& a, const Matrix& b);
/// Recorded steps whose X~ lies under the key M of the first step.
std::vector<PooledStep> steps_under_first_key(const LayerCase& layer);

}  // namespace tempo::audit
