#include "obfuscation/blind_checks.h"

#include <fmt/format.h>

#include <cstdint>
#include <type_traits>

#include "obfuscation/kernels/kernels.h"
#include "tempo/error.h"

namespace tempo::obfuscation {
namespace {

const char* form_name(Form form) {
  switch (form) {
    case Form::kDirect:
      return "direct";
    case Form::kInverseTranspose:
      return "inverse-transpose";
    case Form::kInverse:
      return "inverse";
    case Form::kTranspose:
      return "transpose";
  }
  return "unknown";
}

void check_geometry(const char* where, const TileGeometry& g) {
  const bool sound = g.images >= 0 && g.height > 0 && g.width > 0 && g.channels > 0 && g.tiles_y > 0 && g.tiles_x > 0 &&
                     g.tile_h > 0 && g.tile_w > 0 && g.step_y > 0 && g.step_x > 0 && g.pitch_y > 0 && g.pitch_x > 0;
  if (!sound)
    throw InputError(
        fmt::format("{}: images [{}, {}, {}, {}] cut into {} x {} tiles of {} x {} pixels, steps {} x {}, "
                    "pitches {} x {}; expected positive sizes",
                    where, g.images, g.height, g.width, g.channels, g.tiles_y, g.tiles_x, g.tile_h, g.tile_w, g.step_y,
                    g.step_x, g.pitch_y, g.pitch_x));
}

/// @param what the dimension: "row" or "channel"
void check_key(const char* where, const char* what, KeyUse use, bool gathering, int64_t size, uint32_t largest_block) {
  if (use.key == nullptr) throw InputError(fmt::format("{}: no {} key, expected one of size {}", where, what, size));
  if (is_gathering(use.form) != gathering)
    throw InputError(fmt::format("{}: {} key in form {}, expected {}", where, what, form_name(use.form),
                                 gathering ? "direct or inverse-transpose" : "inverse or transpose"));
  if (int64_t{use.key->size} != size)
    throw InputError(fmt::format("{}: {} key of size {}, expected {}", where, what, use.key->size, size));
  for (size_t i = 0; i < use.key->rounds.size(); ++i) {
    const KeyRound& round = use.key->rounds[i];
    if (round.source.size() != use.key->size || round.scale.size() != use.key->size)
      throw InputError(fmt::format("{}: round {} of the {} key has {} sources and {} scales, expected {} of each",
                                   where, i, what, round.source.size(), round.scale.size(), size));
    if (round.block == 0 || round.block > largest_block || (round.block & (round.block - 1)) != 0)
      throw InputError(fmt::format("{}: round {} of the {} key mixes blocks of {}, expected a power of two up to {}",
                                   where, i, what, round.block, largest_block));
  }
}

template <typename T>
constexpr ElementType kTypeOf = std::is_same_v<T, float> ? ElementType::kFloat32 : ElementType::kFloat64;

template <typename T>
void check_wire(const char* where, ElementType type, const std::byte* wire) {
  const bool may_narrow = std::is_same_v<T, float>;
  if (type != kTypeOf<T> && !(may_narrow && type == ElementType::kBFloat16))
    throw InputError(fmt::format("{}: wire type {} for a {} tensor, expected {}", where, offload::element_name(type),
                                 offload::element_name(kTypeOf<T>), may_narrow ? "float32 or bfloat16" : "float64"));
  if (reinterpret_cast<uintptr_t>(wire) % offload::element_bytes(type) != 0)
    throw InputError(fmt::format("{}: wire memory is not aligned to its {} elements, expected a multiple of {} bytes",
                                 where, offload::element_name(type), offload::element_bytes(type)));
}

void check_decoys(const char* where, const TileGeometry& g, int64_t decoys) {
  if (decoys < 0 || decoys > g.images)
    throw InputError(fmt::format("{}: {} decoys among {} images, expected at most as many", where, decoys, g.images));
}

template <typename T>
void check(const char* where, const TileGeometry& geometry, KeyUse rows, KeyUse channels, ElementType wire_type,
           const std::byte* wire, bool gathering) {
  check_geometry(where, geometry);
  check_wire<T>(where, wire_type, wire);
  check_key(where, "row", rows, gathering, geometry.rows(), kernels::kSection);
  check_key(where, "channel", channels, gathering, geometry.channels, kernels::kGroup);
}

void check_slices(const char* where, const KeyUse& rows, const std::vector<RowRange>& slices) {
  if (!slices.empty() && slices != slice_rows(*rows.key, static_cast<int64_t>(slices.size())))
    throw InputError(
        fmt::format("{}: {} slices of {} rows, expected those of slice_rows", where, slices.size(), rows.key->size));
}

template <typename T>
void check_products(const char* where, KeyUse rows, KeyUse channels, const PixelProducts<T>& products) {
  if (products.count == 0) return;
  if (products.count < 0 || products.count > PixelProducts<T>::kMost || products.vectors == nullptr ||
      products.planes == nullptr)
    throw InputError(fmt::format("{}: products with {} vectors, expected at most {}, and memory for them", where,
                                 products.count, PixelProducts<T>::kMost));
  if (products.weights != nullptr &&
      (products.column_sums == nullptr || products.count != 1 || !is_gathering(rows.form)))
    throw InputError(
        fmt::format("{}: column sums beside {} vectors, expected one, memory, and blinding", where, products.count));
  if (!takes_products(*rows.key, *channels.key))
    throw InputError(fmt::format("{}: products of operands that are mixed; expected none that are", where));
}

template <typename T>
void check_moments(const TileGeometry& geometry, KeyUse rows, KeyUse channels, const WhileUnblinding<T>& also) {
  if (also.moments.sums == nullptr) return;
  if (also.moments.shift == nullptr || also.moments.squares == nullptr || also.addend != nullptr ||
      !takes_moments(geometry, *rows.key, *channels.key))
    throw InputError("unblind: moments of an operand that is mixed, overlaps, or is added to; expected none of these");
}

}  // namespace

template <typename T>
void check_blind(const TileGeometry& geometry, KeyUse rows, KeyUse channels, ElementType wire, const std::byte* out,
                 const WhileBlinding<T>& also) {
  check<T>("blind", geometry, rows, channels, wire, out, true);
  check_decoys("blind", geometry, also.decoys.images);
  if (also.decoys.images > 0 && also.decoys.pixels == nullptr)
    throw InputError(fmt::format("blind: {} decoys without pixels, expected them", also.decoys.images));
  check_products("blind", rows, channels, also.products);
  check_slices("blind", rows, also.slices.rows);
}

template <typename T>
void check_unblind(const TileGeometry& geometry, KeyUse rows, KeyUse channels, ElementType wire, const std::byte* in,
                   const WhileUnblinding<T>& also) {
  check<T>("unblind", geometry, rows, channels, wire, in, false);
  check_decoys("unblind", geometry, also.decoy_images);
  check_products("unblind", rows, channels, also.products);
  check_slices("unblind", rows, also.slices.rows);
  check_moments(geometry, rows, channels, also);
  if (also.addend != nullptr && !takes_addend(geometry, *rows.key, *channels.key))
    throw InputError("unblind: an addend to an operand that is mixed, or cut into tiles; expected neither");
}

#define TEMPO_INSTANTIATE(T)                                                                      \
  template void check_blind(const TileGeometry&, KeyUse, KeyUse, ElementType, const std::byte*,   \
                            const WhileBlinding<T>&);                                             \
  template void check_unblind(const TileGeometry&, KeyUse, KeyUse, ElementType, const std::byte*, \
                              const WhileUnblinding<T>&);
TEMPO_INSTANTIATE(float)
TEMPO_INSTANTIATE(double)
#undef TEMPO_INSTANTIATE

}  // namespace tempo::obfuscation
