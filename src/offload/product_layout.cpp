#include "offload/product_layout.h"

#include "offload/session.h"

namespace tempo::offload {

using obfuscation::matrix_geometry;
using obfuscation::TileGeometry;

namespace {

/// Whether an inner key acts on all taps of a kernel at once. Workers can then no longer slide the kernel over tiles,
/// so every output must be a row of its own.
bool mixes_taps(const Session& session) {
  return session.protection().mixes_positions() && session.options().conv_tile == 1;
}

}  // namespace

obfuscation::TileGeometry weight_cut(const Session& session, const ProductGeometry& geometry) {
  TileGeometry cut = obfuscation::weight_geometry(geometry.out, geometry.kernel_h, geometry.kernel_w, geometry.in);
  cut.mixes_positions = mixes_taps(session);
  return cut;
}

ProductLayout layout_of(const Session& session, const ProductGeometry& geometry, const ImageShape& shape,
                        ElementType type) {
  const ProductGeometry& g = geometry;
  const auto cut_of = [&](int64_t images) {
    obfuscation::ConvTiling cut = obfuscation::tile_convolution(
        images, {shape.height, g.kernel_h, g.stride, g.padding, g.dilation},
        {shape.width, g.kernel_w, g.stride, g.padding, g.dilation}, {g.in, g.out}, session.options().conv_tile);
    cut.input.mixes_positions = mixes_taps(session);
    return cut;
  };
  ProductLayout layout;
  layout.images = shape;
  layout.type = type;
  layout.decoys = plan_decoys(session.protection().decoy_energy(), shape.images, cut_of(shape.images));
  const obfuscation::ConvTiling cut = cut_of(shape.images + layout.decoys.images());
  const TileGeometry &in = cut.input, &out = cut.output;
  layout.rows = in.rows();
  layout.inner = in.key_channels();
  layout.outer = g.out;
  layout.product.precision = session.options().products;
  // A product of single positions is a matrix product whatever its kernel: the kernel's taps become columns.
  const bool is_linear = out.positions() == 1;
  if (!is_linear)
    layout.product = {.kind = ProductKind::kConv2d,
                      .stride_h = g.stride,
                      .stride_w = g.stride,
                      .dilation_h = out.tile_h == 1 ? 1 : g.dilation,
                      .dilation_w = out.tile_w == 1 ? 1 : g.dilation,
                      .precision = layout.product.precision};
  const auto shape_of = [&](const TileGeometry& tiles) -> std::vector<int64_t> {
    if (is_linear) return {tiles.rows(), tiles.positions() * tiles.channels};
    return {tiles.rows(), tiles.tile_h, tiles.tile_w, tiles.channels};
  };
  const ElementType wire = session.wire_type(type);
  // Both sides have the same blocks of rows, since they are cut alike for the workers.
  contract::PanelLayout panels = session.protection().wire_panels();
  if (panels.is_set() && (layout.inner % panels.width != 0 || g.out % panels.width != 0)) panels = {};
  layout.x = {in, KeyRole::kLeft, KeyRole::kInner, {wire, shape_of(in), panels}, Spread::kRows};
  layout.y = {out, KeyRole::kLeft, KeyRole::kRight, {wire, shape_of(out), panels}, Spread::kRows};
  layout.w = weight_side(weight_cut(session, g), type);
  layout.flops = 2.0 * static_cast<double>(shape.images * out.height * out.width) *
                 static_cast<double>(layout.w.geometry.elements());
  return layout;
}

ProductLayout layout_of(const Session& session, const BatchShape& shape, ElementType type) {
  const auto& [batch, n, d, m] = shape;
  const ElementType wire = session.wire_type(type);
  ProductLayout layout;
  layout.batch = shape;
  layout.type = type;
  layout.items = static_cast<size_t>(batch);
  layout.rows = n;
  layout.inner = d;
  layout.outer = m;
  layout.product = {.kind = ProductKind::kMatmul, .precision = session.options().products};
  layout.x = {matrix_geometry(n, d), KeyRole::kLeft, KeyRole::kInner, {wire, {batch, n, d}}, Spread::kRows};
  layout.w = {matrix_geometry(d, m), KeyRole::kInner, KeyRole::kRight, {wire, {batch, d, m}}, Spread::kRows};
  layout.y = {matrix_geometry(n, m), KeyRole::kLeft, KeyRole::kRight, {wire, {batch, n, m}}, Spread::kRows};
  layout.flops = 2.0 * static_cast<double>(batch * n) * static_cast<double>(d * m);
  return layout;
}

}  // namespace tempo::offload
