/// Protections. A protection draws the secret keys of a product and answers all that follows from its choice. A new one
/// is one file: a class, and a line where it is registered (`built_in` in protection.cpp, or a RegisteredProtection in
/// a program of its own).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/csprng.h"
#include "obfuscation/key.h"
#include "obfuscation/plain_tensor.h"
#include "tempo/options.h"

namespace tempo::obfuscation {

/// Seconds to blind or un-blind one element on one core.
struct BlindingRates {
  double permute_seconds = 0.8e-9;    ///< to copy or permute it
  double rotate_seconds = 1.8e-9;     ///< the first row round that mixes, with the rounds over channels
  double row_round_seconds = 1.1e-9;  ///< each further row round
};

/// Stateless and thread-safe: all randomness comes from the stream passed in.
class Protection {
 public:
  virtual ~Protection() = default;

  /// Draws a key over rows (samples, positions or tiles).
  [[nodiscard]] virtual Key row_key(Csprng& random, uint32_t size) const = 0;
  /// Draws a key over input or output channels.
  [[nodiscard]] virtual Key channel_key(Csprng& random, uint32_t size) const = 0;
  /// Whether every key satisfies K^-1 == K^T. Weights that are updated on workers need such keys.
  [[nodiscard]] virtual bool is_orthogonal() const = 0;
  /// The number of rounds of a key over `rows` rows, and of one over channels.
  [[nodiscard]] virtual int row_rounds(uint64_t rows) const = 0;
  [[nodiscard]] virtual int channel_rounds() const = 0;
  /// The layout of blinded activations on the wire, where both sides of a product have whole panels of channels; by
  /// default they are row-major. Workers get whole blocks of rows.
  [[nodiscard]] virtual contract::PanelLayout wire_panels() const { return {}; }
  /// Whether a channel key acts on whole rows, all positions at once, where a tile has one output.
  [[nodiscard]] virtual bool mixes_positions() const { return false; }
  /// Whether a blinded row holds parts of several plain rows.
  [[nodiscard]] virtual bool mixes_rows() const { return false; }
  /// Whether its keys let figures be taken, and operands be made, in the same pass as blinding (obfuscation/taps.h). No
  /// figures can be taken of operands in panels.
  [[nodiscard]] virtual bool fits_taps() const { return false; }
  /// Root mean square of the keys' scales times that of their reciprocals. Orthogonal keys have 1.
  [[nodiscard]] virtual double key_spread() const { return 1; }
  /// Energy of the noise images that are mixed with the real ones, relative to theirs; 0: there are none.
  [[nodiscard]] virtual double decoy_energy() const { return 0; }

  /// The number of parts that every activation is split into. Their sum is the activation, each part goes to workers of
  /// its own, and the sum of their results is the result. Weights must then be frozen: their gradient needs parts of
  /// two holders at one worker.
  [[nodiscard]] virtual int parts() const { return 1; }
  /// Splits `x` into parts() tensors of `elements` elements. `random` is for this tensor alone.
  virtual void split(const ConstPlainTensor& x, int64_t elements, Csprng& random,
                     const std::vector<PlainTensor>& parts) const;

  /// Whether it is meant to protect against a worker that attacks. All others are for measurements only.
  [[nodiscard]] virtual bool protects() const = 0;
  /// What a worker learns all the same, in one sentence.
  [[nodiscard]] virtual std::string_view leak() const = 0;
  /// The entropy of a key of `rounds` rounds over `size` entries, in bits, or a lower bound of it.
  [[nodiscard]] virtual double key_bits(int64_t size, int rounds) const = 0;
  /// The settings that only it reads, as they are named on the command line.
  [[nodiscard]] virtual std::vector<std::string_view> settings() const { return {}; }
  /// Seconds to blind or un-blind one element under a key over `rows` rows.
  [[nodiscard]] virtual double seconds_per_element(const BlindingRates& rates, uint64_t /*rows*/) const {
    return rates.permute_seconds;
  }
  /// The decoys and the reuse that are chosen if a user names none.
  [[nodiscard]] virtual double default_decoys() const { return 0; }
  [[nodiscard]] virtual Reuse default_reuse() const { return Reuse::kFull; }
  /// Refuses weights and reuse that its keys do not allow. The default lets weights stay on workers if keys are
  /// orthogonal and operands are reused in full.
  /// @throws InputError
  virtual void check(const BlindingOptions& options) const;
};

/// Draws a permutation of a key's entries that keeps each within its group.
std::vector<uint32_t> permutation_within_groups(Csprng& random, const Key& key);

using MakeProtection = std::function<std::unique_ptr<const Protection>(const BlindingOptions&)>;
/// Makes a protection known under a name for as long as the object lives. For programs that bring their own; not
/// thread-safe.
class RegisteredProtection {
 public:
  /// @throws InputError if the name is taken.
  RegisteredProtection(std::string name, MakeProtection make);
  ~RegisteredProtection();
  RegisteredProtection(const RegisteredProtection&) = delete;
  RegisteredProtection& operator=(const RegisteredProtection&) = delete;

 private:
  std::string name_;
};

/// The names that `BlindingOptions::protection` may have.
std::vector<std::string> protection_names();

/// @throws InputError for an unknown name, and as `validate(options)`.
std::unique_ptr<const Protection> make_protection(const BlindingOptions& options);

/// Whether the options' protection is meant to protect: `make_protection(options)->protects()`.
bool protects(const BlindingOptions& options);

}  // namespace tempo::obfuscation
