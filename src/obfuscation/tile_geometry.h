/// Cuts a batch of images [N, H, W, C] into the rows of a blinded operand [rows, tile_h, tile_w, C].
#pragma once

#include <algorithm>
#include <cstdint>

namespace tempo::obfuscation {

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Rows [begin, end).
struct RowRange {
  int64_t begin = 0, end = 0;

  [[nodiscard]] int64_t count() const { return end - begin; }
  friend bool operator==(const RowRange&, const RowRange&) = default;
};

/// A cut of images into tiles. Row r = (n * tiles_y + ty) * tiles_x + tx is tile (ty, tx) of image n. Its position (py,
/// px) is the image pixel
///   y = ty * step_y - offset_y + py * pitch_y,   x = tx * step_x - offset_x + px * pitch_x
/// or a zero of the padding if that pixel lies outside the image. The layout is channels-last throughout.
struct TileGeometry {
  int64_t images = 0, height = 0, width = 0, channels = 0;  ///< the image tensor [N, H, W, C]
  int64_t tiles_y = 1, tiles_x = 1;                         ///< tiles per image
  int64_t tile_h = 1, tile_w = 1;                           ///< pixels of one tile
  int64_t step_y = 1, step_x = 1;                           ///< image pixels between the origins of two tiles
  int64_t offset_y = 0, offset_x = 0;                       ///< padding before the first pixel
  int64_t pitch_y = 1, pitch_x = 1;                         ///< image pixels between two pixels of a tile
  /// Whether a channel key acts on all channels of all positions of a row at once, instead of position by position.
  bool mixes_positions = false;

  [[nodiscard]] int64_t rows() const { return images * tiles_y * tiles_x; }
  [[nodiscard]] int64_t positions() const { return tile_h * tile_w; }
  /// The number of entries that a channel key acts on.
  [[nodiscard]] int64_t key_channels() const { return mixes_positions ? positions() * channels : channels; }
  /// The number of elements of the blinded operand.
  [[nodiscard]] int64_t elements() const { return rows() * positions() * channels; }
  /// The offset, in elements, of the channels of (row, position) in the image tensor, or -1 in the padding.
  [[nodiscard]] int64_t pixel_offset(int64_t row, int64_t position) const {
    const int64_t tx = row % tiles_x;
    const int64_t ty = row / tiles_x % tiles_y;
    const int64_t n = row / tiles_x / tiles_y;
    const int64_t y = ty * step_y - offset_y + position / tile_w * pitch_y;
    const int64_t x = tx * step_x - offset_x + position % tile_w * pitch_x;
    if (y < 0 || y >= height || x < 0 || x >= width) return -1;
    return ((n * height + y) * width + x) * channels;
  }
  /// Whether no two tiles share a pixel, so that un-blinding is a plain store.
  [[nodiscard]] bool is_disjoint() const {
    return (tiles_y == 1 || (tile_h - 1) * pitch_y < step_y) && (tiles_x == 1 || (tile_w - 1) * pitch_x < step_x);
  }
};

/// The cut of a plain matrix [rows, channels]: one row for each row.
inline TileGeometry matrix_geometry(int64_t rows, int64_t channels) {
  return {.images = rows, .height = 1, .width = 1, .channels = channels};
}

/// The cut of a weight [out, kernel_h, kernel_w, in]: one row for each output channel, one position for each kernel
/// tap.
inline TileGeometry weight_geometry(int64_t out, int64_t kernel_h, int64_t kernel_w, int64_t in) {
  return {.images = out, .height = kernel_h, .width = kernel_w, .channels = in, .tile_h = kernel_h, .tile_w = kernel_w};
}

/// One dimension of a convolution.
struct ConvAxis {
  int64_t size = 1, kernel = 1, stride = 1, padding = 0, dilation = 1;
  [[nodiscard]] int64_t outputs() const { return (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1; }
};

/// The channels of a convolution.
struct ConvChannels {
  int64_t in = 0, out = 0;
};

/// The two cuts of one convolution: of its padded input with halo, and of its output.
struct ConvTiling {
  TileGeometry input, output;
};

/// Cuts a convolution into tiles.
/// @param tile outputs along one side of a tile. 0, or more than there are, means one tile; 1 is im2col.
/// A pointwise kernel always gets single positions: every position is a row, and a stride skips pixels that are not
/// read.
inline ConvTiling tile_convolution(int64_t images, ConvAxis y, ConvAxis x, ConvChannels channels, int64_t tile) {
  const auto [in, out] = channels;
  const bool pointwise = y.kernel == 1 && x.kernel == 1;
  const int64_t ty = pointwise ? 1 : (tile == 0 ? y.outputs() : std::min(tile, y.outputs()));
  const int64_t tx = pointwise ? 1 : (tile == 0 ? x.outputs() : std::min(tile, x.outputs()));
  const int64_t tiles_y = (y.outputs() + ty - 1) / ty;
  const int64_t tiles_x = (x.outputs() + tx - 1) / tx;
  // A tile of one output needs only the pixels under the kernel's taps; larger tiles need the pixels between them too.
  const int64_t pitch_y = ty == 1 ? y.dilation : 1;
  const int64_t pitch_x = tx == 1 ? x.dilation : 1;
  const auto extent = [](int64_t t, const ConvAxis& a) {
    return t == 1 ? a.kernel : (t - 1) * a.stride + a.dilation * (a.kernel - 1) + 1;
  };
  ConvTiling cut;
  cut.input = {.images = images,
               .height = y.size,
               .width = x.size,
               .channels = in,
               .tiles_y = tiles_y,
               .tiles_x = tiles_x,
               .tile_h = extent(ty, y),
               .tile_w = extent(tx, x),
               .step_y = ty * y.stride,
               .step_x = tx * x.stride,
               .offset_y = y.padding,
               .offset_x = x.padding,
               .pitch_y = pitch_y,
               .pitch_x = pitch_x};
  cut.output = {.images = images,
                .height = y.outputs(),
                .width = x.outputs(),
                .channels = out,
                .tiles_y = tiles_y,
                .tiles_x = tiles_x,
                .tile_h = ty,
                .tile_w = tx,
                .step_y = ty,
                .step_x = tx};
  return cut;
}

}  // namespace tempo::obfuscation
