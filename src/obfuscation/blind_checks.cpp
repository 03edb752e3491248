#include "obfuscation/blind_checks.h"

#include <fmt/format.h>

#include <cstdint>

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

/// Scratch memory holds one group at a time, so no row may move between groups after the first round.
void check_groups(const char* where, const Key& rows) {
  if (rows.group == 0) return;
  if (rows.group % kernels::kSection != 0)
    throw InputError(fmt::format("{}: groups of {} rows, expected a multiple of {}", where, rows.group,
                                 static_cast<int>(kernels::kSection)));
  for (size_t r = 1; r < rows.rounds.size(); ++r)
    for (uint32_t g = 0; g < rows.groups(); ++g)
      for (uint32_t i = rows.group_begin(g); i < rows.group_end(g); ++i)
        if (rows.rounds[r].source[i] < rows.group_begin(g) || rows.rounds[r].source[i] >= rows.group_end(g))
          throw InputError(
              fmt::format("{}: round {} of the row key moves rows between groups of {}, expected none after "
                          "the first round",
                          where, r, rows.group));
}

void check_types(const char* where, ElementType plain, ElementType wire) {
  const bool is_double = plain == ElementType::kFloat64, may_narrow = plain == ElementType::kFloat32;
  if (wire == plain && (is_double || may_narrow)) return;
  if (wire == ElementType::kBFloat16 && may_narrow) return;
  throw InputError(fmt::format("{}: wire type {} for a {} tensor, expected {}", where, contract::element_name(wire),
                               contract::element_name(plain), is_double ? "float64" : "float32 or bfloat16"));
}

void check(const char* where, const Blinding& how, ElementType plain, bool gathering) {
  const TileGeometry& geometry = how.geometry;
  check_geometry(where, geometry);
  check_types(where, plain, how.wire);
  check_key(where, "row", how.rows, gathering, geometry.rows(), kernels::kSection);
  check_groups(where, *how.rows.key);
  check_key(where, "channel", how.channels, gathering, geometry.key_channels(), kernels::kGroup);
  try {
    contract::check_panels(
        {.type = how.wire, .shape = {geometry.rows(), geometry.key_channels()}, .panels = how.panels});
  } catch (const ProtocolError& error) {
    throw InputError(fmt::format("{}: {}", where, error.what()));
  }
  if (how.decoy_images < 0 || how.decoy_images > geometry.images)
    throw InputError(fmt::format("{}: {} decoys among {} images, expected at most as many", where, how.decoy_images,
                                 geometry.images));
}

void check_products(const char* where, const PixelProducts& products, bool gathering) {
  if (products.count == 0) return;
  if (products.count < 0 || products.count > PixelProducts::kMost || products.vectors == nullptr ||
      products.planes == nullptr)
    throw InputError(fmt::format("{}: products with {} vectors, expected at most {}, and memory for them", where,
                                 products.count, PixelProducts::kMost));
  if (products.weights != nullptr && (products.column_sums == nullptr || products.count != 1 || !gathering))
    throw InputError(
        fmt::format("{}: column sums beside {} vectors, expected one, memory, and blinding", where, products.count));
}

/// Says which tap the keys or the cut do not support.
void check_supported(const char* where, const Taps& taps, const Blinding& how) {
  if (supports(taps, how)) return;
  if (!supports({.products = taps.products}, how))
    throw InputError(fmt::format("{}: products of operands that are mixed; expected none that are", where));
  if (taps.addend != nullptr && taps.moments.sums == nullptr)
    throw InputError(
        fmt::format("{}: an addend to an operand that is mixed, or cut into tiles; expected neither", where));
  throw InputError(
      fmt::format("{}: moments of an operand that is mixed, overlaps, or is added to; expected none of these", where));
}

}  // namespace

void check_wire_memory(const char* where, ElementType type, const std::byte* wire) {
  if (reinterpret_cast<uintptr_t>(wire) % contract::element_bytes(type) != 0)
    throw InputError(fmt::format("{}: wire memory is not aligned to its {} elements, expected a multiple of {} bytes",
                                 where, contract::element_name(type), contract::element_bytes(type)));
}

void check_blind(const Blinding& how, const PlainOperand& operand, const std::byte* out, const Taps& taps) {
  check("blind", how, operand.x.type, true);
  check_wire_memory("blind", how.wire, out);
  if (how.decoy_images > 0 && operand.decoys == nullptr)
    throw InputError(fmt::format("blind: {} decoys without pixels, expected them", how.decoy_images));
  if (taps.moments.sums != nullptr || taps.addend != nullptr)
    throw InputError("blind: moments or an addend, which are for un-blinding; expected neither");
  check_products("blind", taps.products, true);
  check_supported("blind", taps, how);
  if (taps.map == nullptr) return;
  const auto channels = static_cast<size_t>(how.geometry.channels);
  if (taps.map->scale.size() != channels || taps.map->offset.size() != channels)
    throw InputError(fmt::format("blind: a map with {} scales and {} offsets, expected {} of each",
                                 taps.map->scale.size(), taps.map->offset.size(), channels));
}

void check_unblind(const Blinding& how, const PlainTensor& x, const Taps& taps) {
  check("unblind", how, x.type, false);
  if (taps.map != nullptr) throw InputError("unblind: a map, which is for blinding; expected none");
  if (taps.moments.sums != nullptr && (taps.moments.shift == nullptr || taps.moments.squares == nullptr))
    throw InputError("unblind: moments without a shift or memory for squares, expected both");
  check_products("unblind", taps.products, false);
  check_supported("unblind", taps, how);
}

}  // namespace tempo::obfuscation
