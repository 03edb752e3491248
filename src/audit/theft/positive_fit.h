/// Fits  x = a y + k s + b  over the pixels where x is positive: the part of ReLU that is linear.
#pragma once

#include <optional>

#include "audit/theft/feature_maps.h"

namespace tempo::audit {

struct PositiveFit {
  double a = 0, k = 0, b = 0;
  double residual = 1;  ///< |a y + k s + b - x| / |x - mean x| over the pixels of the fit
};

/// @param y, s, x  maps of one size; `s` may be null: k is 0 then.
/// Nothing where fewer than 12 pixels are positive and known, or where these do not determine the coefficients.
std::optional<PositiveFit> fit_positive(const double* y, const double* s, const double* x, int64_t pixels);

}  // namespace tempo::audit
