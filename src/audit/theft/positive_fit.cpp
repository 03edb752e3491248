#include "audit/theft/positive_fit.h"

#include <algorithm>
#include <cmath>

namespace tempo::audit {
namespace {

constexpr int64_t kFewestPixels = 12;

/// Means of the three maps over the pixels of the fit.
struct Means {
  double y = 0, s = 0, x = 0;
  int64_t pixels = 0;
};

bool is_used(const double* y, const double* s, const double* x, int64_t i) {
  return x[i] > 0 && std::isfinite(x[i]) && std::isfinite(y[i]) && (s == nullptr || std::isfinite(s[i]));
}

Means means_of(const double* y, const double* s, const double* x, int64_t pixels) {
  Means m;
  for (int64_t i = 0; i < pixels; ++i) {
    if (!is_used(y, s, x, i)) continue;
    ++m.pixels;
    m.y += y[i];
    m.x += x[i];
    if (s != nullptr) m.s += s[i];
  }
  const auto n = static_cast<double>(std::max<int64_t>(1, m.pixels));
  m.y /= n;
  m.s /= n;
  m.x /= n;
  return m;
}

}  // namespace

std::optional<PositiveFit> fit_positive(const double* y, const double* s, const double* x, int64_t pixels) {
  const Means mean = means_of(y, s, x, pixels);
  if (mean.pixels < kFewestPixels) return std::nullopt;
  double yy = 0, ys = 0, ss = 0, yx = 0, sx = 0, xx = 0;
  for (int64_t i = 0; i < pixels; ++i) {
    if (!is_used(y, s, x, i)) continue;
    const double dy = y[i] - mean.y, ds = s == nullptr ? 0 : s[i] - mean.s, dx = x[i] - mean.x;
    yy += dy * dy;
    ys += dy * ds;
    ss += ds * ds;
    yx += dy * dx;
    sx += ds * dx;
    xx += dx * dx;
  }
  constexpr double kSingular = 1e-9;
  if (!(yy > 0) || !(xx > 0)) return std::nullopt;
  PositiveFit fit;
  if (s == nullptr) {
    fit.a = yx / yy;
  } else {
    const double determinant = yy * ss - ys * ys;
    if (!(determinant > kSingular * yy * ss)) return std::nullopt;
    fit.a = (ss * yx - ys * sx) / determinant;
    fit.k = (yy * sx - ys * yx) / determinant;
  }
  fit.b = mean.x - fit.a * mean.y - fit.k * mean.s;
  // Summed anew: the difference of the sums above would be lost in rounding where the fit is exact.
  double left = 0;
  for (int64_t i = 0; i < pixels; ++i) {
    if (!is_used(y, s, x, i)) continue;
    const double e = fit.a * y[i] + (s == nullptr ? 0 : fit.k * s[i]) + fit.b - x[i];
    left += e * e;
  }
  fit.residual = std::sqrt(left / xx);
  return fit;
}

}  // namespace tempo::audit
