/// The protections that Tempo comes with. Equations: docs/blinding.md. What each is worth: docs/privacy.md.
#pragma once

#include <memory>

#include "obfuscation/protection.h"

namespace tempo::obfuscation {

/// `none`: the identity. For comparison.
std::unique_ptr<const Protection> make_none(const BlindingOptions& options);
/// `permuted`, the paper's scheme: a permutation times a diagonal on every dimension. One step breaks it.
std::unique_ptr<const Protection> make_permuted(const BlindingOptions& options);
/// `rotated`: orthogonal keys that mix rows and channels in several rounds.
std::unique_ptr<const Protection> make_rotated(const BlindingOptions& options);
/// `oblique`: rows as under `rotated`; channels under keys that are not orthogonal.
std::unique_ptr<const Protection> make_oblique(const BlindingOptions& options);

/// The entropy of a random permutation, in bits.
double permutation_bits(int64_t size);

}  // namespace tempo::obfuscation
