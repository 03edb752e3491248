/// Keys. A key is a secret invertible linear map K over one dimension of an operand, made of rounds that are cheap to
/// apply.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tempo::obfuscation {

/// One round:  (K v)[i] = H (scale . v[source]). H is a block-diagonal orthonormal Hadamard (Sylvester) matrix. Blocks
/// have `block` entries, a power of two, up to 16 for channels and up to 256 for rows. The ragged end is cut into
/// descending powers of two (for example, 13 entries: blocks of 8, 4 and 1). block == 1 means no mixing. A block of G x
/// 16 entries with G > 1 leaves transposed: the entry that H computes at j + 16 k goes to place j G + k.
struct KeyRound {
  std::vector<uint32_t> source;  ///< a permutation of 0..size-1
  std::vector<float> scale;      ///< non-zero, as long as `source`
  uint32_t block = 1;
};

/// A key: rounds applied first to last; no rounds are the identity. Immutable once made, so safe to share between
/// threads.
struct Key {
  uint32_t size = 0;
  std::vector<KeyRound> rounds;
  /// Rounds after the first keep entries within groups of so many, a multiple of 256, so that a group is mixed in
  /// cache; the last group takes what is left over as well. 0: all entries are one group. The first round draws the
  /// entries of a group from all of them. Only for rows.
  uint32_t group = 0;
  bool orthogonal = true;  ///< K^-1 == K^T: every scale is +1 or -1

  [[nodiscard]] uint32_t groups() const { return group == 0 || size < group ? 1 : size / group; }
  /// The first entry of a group, and the first after it.
  [[nodiscard]] uint32_t group_begin(uint32_t number) const { return number * group; }
  [[nodiscard]] uint32_t group_end(uint32_t number) const {
    return number + 1 == groups() ? size : (number + 1) * group;
  }
};

/// The four ways in which a key acts on the vectors of its dimension. Blinding uses the first two, un-blinding the
/// last two. Gathering forms read v[source]; scattering forms run the rounds backward and write to v[source].
///   kDirect            v -> K v        (gather, scale)
///   kInverseTranspose  v -> K^-T v     (gather, 1 / scale)
///   kInverse           v -> K^-1 v     (scatter, 1 / scale)
///   kTranspose         v -> K^T v      (scatter, scale)
enum class Form { kDirect, kInverseTranspose, kInverse, kTranspose };

constexpr bool is_gathering(Form form) { return form == Form::kDirect || form == Form::kInverseTranspose; }
constexpr bool divides_by_scale(Form form) { return form == Form::kInverseTranspose || form == Form::kInverse; }

/// A key and the form in which it acts.
struct KeyUse {
  const Key* key = nullptr;
  Form form = Form::kDirect;
};

}  // namespace tempo::obfuscation
