#include "obfuscation/noise.h"

#include "base/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "obfuscation/noise.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tempo::obfuscation {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// out[i], out[i + half] = radius(bits[i]) * (cos, sin)(angle(bits[i + half])). `half` is a multiple of sixteen.
void transform(const uint32_t* HWY_RESTRICT bits, int64_t half, float deviation, float* HWY_RESTRICT out) {
  const hn::CappedTag<float, 16> d;
  const hn::Rebind<uint32_t, decltype(d)> d_bits;
  const hn::Rebind<int32_t, decltype(d)> d_int;
  const auto unit = hn::Set(d, 0x1p-24f);
  const auto number = [&](int64_t i) HWY_ATTR {
    return hn::ConvertTo(d, hn::BitCast(d_int, hn::ShiftRight<8>(hn::LoadU(d_bits, bits + i))));
  };
  for (int64_t i = 0; i < half; i += static_cast<int64_t>(hn::Lanes(d))) {
    const auto uniform = hn::Mul(hn::Add(number(i), hn::Set(d, 1.0f)), unit);  // never zero
    const auto angle = hn::Mul(number(i + half), hn::Set(d, 0x1p-24f * 6.28318530717958647692f));
    const auto radius = hn::Mul(hn::Sqrt(hn::Mul(hn::Set(d, -2.0f), hn::Log(d, uniform))), hn::Set(d, deviation));
    hn::StoreU(hn::Mul(radius, hn::Cos(d, angle)), d, out + i);
    hn::StoreU(hn::Mul(radius, hn::Sin(d, angle)), d, out + i + half);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tempo::obfuscation
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <cstring>

namespace tempo::obfuscation {

HWY_EXPORT(transform);

void fill_normal(Csprng& random, double deviation, std::span<float> out) {
  constexpr size_t kValues = 1024;
  alignas(64) uint32_t bits[kValues];
  alignas(64) float values[kValues];
  while (!out.empty()) {
    random.fill(std::as_writable_bytes(std::span(bits)));
    HWY_DYNAMIC_DISPATCH(transform)(bits, kValues / 2, static_cast<float>(deviation), values);
    const size_t count = std::min(out.size(), kValues);
    std::memcpy(out.data(), values, count * sizeof(float));
    out = out.subspan(count);
  }
}

void fill_normal(Csprng& random, double deviation, std::span<double> out) {
  for (double& value : out) value = deviation * random.normal();
}

}  // namespace tempo::obfuscation
#endif  // HWY_ONCE
