/// Protection schemes, which draw the secret keys of a product. A new scheme is one class in scheme.cpp and one line in
/// `make_scheme`.
#pragma once

#include <memory>

#include "base/csprng.h"
#include "obfuscation/key.h"
#include "tempo/options.h"

namespace tempo::obfuscation {

/// Draws keys. Stateless and thread-safe: all randomness comes from the stream passed in.
class Scheme {
 public:
  virtual ~Scheme() = default;
  /// Whether every key satisfies K^-1 == K^T, which resident weights require.
  [[nodiscard]] virtual bool is_orthogonal() const = 0;
  /// Draws a key over rows (samples, positions or tiles).
  [[nodiscard]] virtual Key row_key(Csprng& random, uint32_t size) const = 0;
  /// Draws a key over input or output channels.
  [[nodiscard]] virtual Key channel_key(Csprng& random, uint32_t size) const = 0;
};

/// Whether the scheme is meant to protect against a worker that attacks. `none` hides nothing, and `permuted`, the
/// paper's scheme, is broken with the operands of one step (docs/privacy.md): both are for measurements only.
bool protects(const BlindingOptions& options);

/// The number of row rounds under `options` for `rows` rows: 0 for `none`, 1 for `permuted`, and for `rotated` as set.
/// If not set, `rotated` has ceil(log256 rows), but at least 2: the fewest after which an output can depend on every
/// input. With random permutations it depends on most of them, not all.
int row_rounds(const BlindingOptions& options, uint64_t rows);

/// The number of channel rounds: 0 for `none`, 1 for `permuted`, 2 for `rotated`.
int channel_rounds(const BlindingOptions& options);

/// @throws InputError as `validate(options)`.
std::unique_ptr<Scheme> make_scheme(const BlindingOptions& options);

}  // namespace tempo::obfuscation
