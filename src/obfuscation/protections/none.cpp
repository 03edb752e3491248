#include "obfuscation/protections/built_in.h"

namespace tempo::obfuscation {
namespace {

class None final : public Protection {
 public:
  [[nodiscard]] Key row_key(Csprng&, uint32_t size) const override { return {.size = size, .rounds = {}}; }
  [[nodiscard]] Key channel_key(Csprng&, uint32_t size) const override { return {.size = size, .rounds = {}}; }
  [[nodiscard]] bool is_orthogonal() const override { return true; }
  [[nodiscard]] int row_rounds(uint64_t) const override { return 0; }
  [[nodiscard]] int channel_rounds() const override { return 0; }
  [[nodiscard]] bool protects() const override { return false; }
  [[nodiscard]] std::string_view leak() const override { return "Workers see all operands as they are."; }
  [[nodiscard]] double key_bits(int64_t, int) const override { return 0; }
};

}  // namespace

std::unique_ptr<const Protection> make_none(const BlindingOptions&) { return std::make_unique<None>(); }

}  // namespace tempo::obfuscation
