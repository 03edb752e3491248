/// The sizes of one product of an activation and a weight for verification: plain, not cut into tiles, without decoys.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tempo::integrity {

/// A convolution over [images, height, width, in], channels last. A linear layer is the pointwise case.
struct ProductShape {
  int64_t images = 0, height = 1, width = 1, in = 0;
  int64_t out_height = 1, out_width = 1, out = 0;
  int64_t kernel_h = 1, kernel_w = 1, stride = 1, padding = 0, dilation = 1;

  [[nodiscard]] int64_t taps() const { return kernel_h * kernel_w; }
  [[nodiscard]] int64_t in_pixels() const { return images * height * width; }
  [[nodiscard]] int64_t out_pixels() const { return images * out_height * out_width; }
};

/// Calls `run(out, tap, in, count)` for images [begin, end), for every tap and every run of outputs in a row of an
/// image: outputs out, out + 1, .. read input pixels in, in + stride, .. through that tap. Pixels of the padding are
/// left out.
template <typename Run>
void for_each_run(const ProductShape& s, int64_t begin, int64_t end, const Run& run) {
  if (s.taps() == 1 && s.stride == 1 && s.padding == 0) {
    const int64_t pixels = s.height * s.width;
    return run(begin * pixels, int64_t{0}, begin * pixels, (end - begin) * pixels);
  }
  for (int64_t n = begin; n < end; ++n)
    for (int64_t oy = 0; oy < s.out_height; ++oy)
      for (int64_t ky = 0; ky < s.kernel_h; ++ky) {
        const int64_t y = oy * s.stride - s.padding + ky * s.dilation;
        if (y < 0 || y >= s.height) continue;
        for (int64_t kx = 0; kx < s.kernel_w; ++kx) {
          const int64_t shift = kx * s.dilation - s.padding;  // x = ox * stride + shift
          const int64_t first = shift >= 0 ? 0 : (-shift + s.stride - 1) / s.stride;
          const int64_t last = std::min(s.out_width, shift >= s.width ? 0 : (s.width - 1 - shift) / s.stride + 1);
          if (first < last)
            run((n * s.out_height + oy) * s.out_width + first, ky * s.kernel_w + kx,
                (n * s.height + y) * s.width + first * s.stride + shift, last - first);
        }
      }
}

}  // namespace tempo::integrity
