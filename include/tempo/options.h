/// What a user can choose about blinding. The command line, the TOML file and the library share these types.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tempo/worker.h"

namespace tempo {

/// The diagonal of `permuted`: the paper's positive integers, or random signs with log-uniform magnitudes in [1/4, 4].
enum class Coefficients { kPositiveInteger, kSignedReal };
/// How far blinded operands are used again. Encryptions that backpropagation needs for each offloaded layer: full 1,
/// split 2, fresh 2, none 4 (forward: 2 each). Under split the backward pass has channel keys of its own, so the weight
/// is sent once more.
enum class Reuse { kFull, kSplit, kFresh, kNone };
/// Whether weights stay blinded on the worker between steps, or travel every step.
enum class WeightPlacement { kResident, kReturned };
/// Element type of blinded activations and gradients on the wire. Weights always travel in the layer's own type.
enum class WirePrecision { kFloat32, kBFloat16 };
/// Element type of what layers keep in the TEE from the forward to the backward pass.
enum class ActivationStorage { kFloat32, kBFloat16 };

struct BlindingOptions {
  /// Which secret keys protect operands: none, permuted, rotated, oblique, or one that the program registers
  /// (obfuscation/protection.h). Equations in docs/blinding.md, guarantees in docs/threat-model.md.
  /// Runs have `oblique` unless they name another one (RunConfig).
  std::string protection = "rotated";
  Coefficients coefficients = Coefficients::kSignedReal;
  Reuse reuse = Reuse::kFull;
  WeightPlacement weights = WeightPlacement::kReturned;
  /// Side of a convolution tile in outputs, for kernels larger than 1x1; 0 means whole images. Range 0..1024. Larger
  /// tiles move less data and mix fewer rows: docs/privacy.md has what that costs.
  int64_t conv_tile = 1;
  /// Rounds of row mixing under `rotated` and `oblique`; 0 means ceil(log256 rows), at least 2. Range 0..8.
  int row_rounds = 0;
  /// The rows that `rotated` and `oblique` mix with one another, drawn anew from the whole batch for every key; 0 means
  /// all rows of the batch. A multiple of 256 in the range 1024..32768. Groups are mixed in cache: docs/threat-model.md
  /// has what they show.
  int64_t row_group = 0;
  /// Steps for which resident weights keep one pair of channel keys. Range 1..2^31. Orthogonal keys keep singular
  /// vectors' relations, so a worker that held one weight under two keys can relate them: see docs/threat-model.md.
  int64_t rekey_interval = 10;
  WirePrecision wire = WirePrecision::kFloat32;
  /// What workers may round the operands of float32 products to: the checks then allow for it.
  contract::ProductPrecision products = contract::ProductPrecision::kFloat32;
  /// Parts of a batch of which one is blinded while others are on their way; 0: as it pays. Range 0..64. Only where one
  /// worker has all rows, and keys mix no further than that. Operands are the same for any number.
  int slices = 0;
  /// Energy of the noise images that `rotated` and `oblique` mix with the real ones, relative to theirs; 0 means none.
  /// Range 0..100. Products of two activations (attention) have none.
  double decoys = 3;
};

/// @throws InputError for a combination that cannot work, saying why:
/// resident weights need orthogonal keys (`rotated` or `none`) and reuse=full.
void validate(const BlindingOptions& options);

}  // namespace tempo
