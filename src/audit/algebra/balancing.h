/// Two weights that differ by the order, the lengths and the signs of their channels: bringing them side by side.
/// A worker sees W~ = R^T W M^-T by kernel tap. Where R and M are scaled permutations, rows and columns of W~ are those
/// of W in another order, each times a number. Weights are [out, kernel_h, kernel_w, in] as everywhere.
#pragma once

#include <vector>

#include "audit/attack.h"
#include "audit/operand.h"

namespace tempo::audit {

/// Sum over kernel taps of w^2: [out, in].
Matrix channel_energies(const Operand& weight);

struct Scales {
  Vector rows, columns;  ///< positive and finite
};
/// Scales such that diag(rows) energy diag(columns) has these sums, by alternation (Sinkhorn, Knopp, 1967). Rows and
/// columns of zeros keep the scale 1. Where no such scales exist the result is what `iterations` leave.
Scales scale_to_sums(const Matrix& energy, const Vector& row_sums, const Vector& column_sums, int iterations = 200);

/// |w| scaled so that all output channels have equal energy and all input channels too. Scaling channels of w leaves it
/// as it is; permuting them permutes it. Both sides' views of it, as matching wants them.
struct BalancedWeight {
  std::vector<Matrix> by_output, by_input;  ///< by kernel tap: [out, in] and [in, out]
  Matrix sorted_outputs, sorted_inputs;  ///< by channel: its sorted values within each tap (evenly spaced ones of them)
};
BalancedWeight balance(const Operand& weight);

/// Which output and input channel of a reference each channel of a blinded weight is thought to be.
struct ChannelMatch {
  std::vector<int> rows, columns;  ///< by blinded output and input channel: the reference's; a permutation each
};
/// Channels are matched by their sorted values, then by their values in place (Hungarian method). Signs and scales of
/// either weight do not matter. Both must have one shape.
/// Cost: at most 12 assignments and products of about 768 values a channel; some 0.3 s for 256 x 256 channels.
ChannelMatch match_channels(const BalancedWeight& blinded, const BalancedWeight& reference, int refinements = 2);

/// The blinded weight in the reference's order of channels, its rows and columns scaled to the reference's energies and
/// signed to agree with the reference. What is left unknown is one common factor.
Operand fit_to_reference(const Operand& blinded, const Operand& reference, const ChannelMatch& match);

/// For decoys: the weight under random orthogonal keys on both sides. It has the singular values of the weight, and
/// its kernel taps belong together as before, but nothing is left of its channels.
Operand randomly_rotated(const Operand& weight, Random& random);

// For scoring: these read the truth.

/// Where a key sends each channel: argmax_j |key(i, j)|. For scaled permutations that is all there is to know of the
/// order; for dense keys a guess cannot be right but by chance.
std::vector<int> destinations(const Matrix& key);
/// Share of channels i whose blinded channel, destination[i], was taken for i.
double share_of_channels_right(const std::vector<int>& guess, const std::vector<int>& destination);
/// The last step with W~ and keys, or -1. It is the furthest from a public start.
int last_weight_step(const LayerCase& layer);
/// W of that step, or the nearest before it that was recorded; empty if none was.
Operand plain_weight(const LayerCase& layer, int step);

}  // namespace tempo::audit
