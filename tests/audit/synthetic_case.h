/// Layers made up for the tests of the attacks: random weights, sparse and heavy-tailed activations, the real schemes.
#pragma once

#include <cstdint>

#include "audit/case.h"
#include "tempo/options.h"

namespace tempo::audit::testing {

struct SyntheticOptions {
  int64_t images = 16, tiles_y = 2, tiles_x = 2;
  int64_t tile = 4;    ///< outputs a side of a tile; 1 for single positions
  int64_t kernel = 3;  ///< taps a side
  int64_t in = 8, out = 12;
  int steps = 1;
  /// Relative change of the weight from step to step.
  double drift = 1e-3;
  /// Steps that share M and R (and have W~ related by the drift alone); 1: new keys every step.
  int steps_per_key = 1;
  /// Share of activations that are zero, as after ReLU.
  double zeros = 0.5;
  /// X holds whole numbers 0..255.
  bool integers = false;
  /// dY is of softmax and cross-entropy over `out` classes (one row an image; wants tile = kernel = tiles = 1).
  bool logit_gradients = false;
  /// Border tiles have the zeros of a padded image.
  bool padded = false;
  uint64_t seed = 1;
};

/// A layer under `blinding` (protection, coefficients, reuse, row_rounds count; conv_tile is given by the options).
/// Every operand of every step is there, in view and truth. Knowledge is empty.
LayerCase synthetic_case(const SyntheticOptions& options, const BlindingOptions& blinding);

}  // namespace tempo::audit::testing
