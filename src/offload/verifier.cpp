#include "offload/verifier.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "obfuscation/blind.h"
#include "offload/resident_weight.h"
#include "offload/session.h"
#include "tempo/error.h"

namespace tempo::offload {
namespace {

/// How many standard deviations of one entry of a mixed residual are tolerated. The largest of millions lies within
/// six, but rows are not mixed evenly: some carry two or three times their share.
constexpr double kToleratedEntry = 14;

template <typename Pointer>
using ElementOf = std::remove_const_t<std::remove_pointer_t<Pointer>>;

template <typename Variant, typename F>
void with_projection(Variant& of, const F& f) {
  if (auto* const floats = std::get_if<integrity::Projection<float>>(&of)) f(*floats);
  if (auto* const doubles = std::get_if<integrity::Projection<double>>(&of)) f(*doubles);
}

}  // namespace

void Verifier::conclude(bool passed, double ratio, const std::string& worker, const std::string& what) {
  ++counts_.checks;
  if (passed) {
    counts_.largest_ratio = std::max(counts_.largest_ratio, ratio);
    return;
  }
  ++counts_.failures;
  throw IntegrityError(
      fmt::format("offload: {} from {} is not the product that was asked for, expected it within "
                  "rounding; the result is dropped and the step abandoned",
                  what, worker));
}

void Verifier::conclude(const integrity::Residual& residual, const std::string& worker, const std::string& what) {
  conclude(residual.is_explained(), residual.is_decidable ? residual.ratio() : 0, worker, what);
}

void Verifier::conclude_entry(double largest, double tolerance, const std::string& worker, const std::string& what) {
  conclude(largest <= tolerance, tolerance > 0 ? largest / tolerance : 0, worker, what);
}

void use_keys(integrity::WeightFingerprint& fingerprint, const obfuscation::Key& inner, const obfuscation::Key& right,
              ThreadPool& threads) {
  const obfuscation::Key one_row{.size = 1, .rounds = {}};
  const auto unblinded = [&](const std::vector<double>& probe, obfuscation::KeyUse channels) {
    std::vector<double> plain(probe.size());
    const auto geometry = obfuscation::matrix_geometry(1, static_cast<int64_t>(probe.size()));
    obfuscation::unblind(reinterpret_cast<const std::byte*>(probe.data()), ElementType::kFloat64, geometry,
                         {&one_row, obfuscation::Form::kInverse}, channels, plain.data(), threads);
    return plain;
  };
  // Y~ r = Y (K^T r) along channels;  dX~ s = dX (K^-1 s).
  fingerprint.use(unblinded(fingerprint.out_probe(), {&right, obfuscation::Form::kTranspose}),
                  unblinded(fingerprint.in_probe(), {&inner, obfuscation::Form::kInverse}));
}

/// Unit roundoff of a product whose operands are rounded. Both operands are rounded independently, so the error is the
/// square root of two times that of one.
double product_roundoff(offload::ProductPrecision precision) {
  constexpr double kBoth = 1.4142135623730951;
  switch (precision) {
    case ProductPrecision::kFloat32:
      return 0;
    case ProductPrecision::kTf32:
      return kBoth * 0x1p-10;  // tensor cores truncate instead of rounding
    case ProductPrecision::kBFloat16:
      return kBoth * 0x1p-9;
  }
  return 0;
}

integrity::RoundingModel rounding_model(const BlindingOptions& options, ElementType type, ElementType wire,
                                        double input_noise, double output_noise) {
  // Root mean square of the keys' scales times that of their reciprocals: 3.04 for 1..16, 2.87 for log-uniform in [1/4,
  // 4].
  constexpr double kSpreadOfScales = 3.1;
  const double of_wire = wire == ElementType::kBFloat16 ? 0x1p-9 : 0;
  return {.unit_roundoff = type == ElementType::kFloat64 ? 0x1p-53 : 0x1p-24,
          .wire_roundoff = std::hypot(of_wire, type == ElementType::kFloat64 ? 0 : product_roundoff(options.products)),
          .gradient_roundoff = of_wire,
          .input_noise = input_noise,
          .output_noise = output_noise,
          .key_spread = options.protection == Protection::kPermuted ? kSpreadOfScales : 1};
}

bool Probe::fits(const obfuscation::Key& rows, const obfuscation::Key& channels) const {
  bool is_little = false;
  with_projection(of_, [&](const auto& of) {
    const bool sums_once = of.count == 1 && of.column_sums.size() == static_cast<size_t>(of.channels);
    is_little = of.weights.empty() ? of.count <= obfuscation::PixelProducts<float>::kMost : sums_once;
  });
  return is_little && obfuscation::takes_products(rows, channels);
}

ProductsOnTheWay Probe::on_the_way() {
  ProductsOnTheWay products;
  with_projection(of_, [&](auto& of) {
    products = {of.count, of.vectors.data(), of.planes.data(), of.weights.empty() ? nullptr : of.weights.data(),
                of.column_sums.data()};
  });
  return products;
}

void Probe::arrived() {
  with_projection(of_, [](auto& of) { of.sum_energy(); });
}

double Probe::energy() const {
  double energy = 0;
  with_projection(of_, [&](const auto& of) { energy = of.energy; });
  return energy;
}

void Probe::measure(ConstPlainTensor x, ThreadPool& threads) {
  with_projection(
      of_, [&]<typename T>(integrity::Projection<T>& of) { of.measure(static_cast<const T*>(x.data), threads); });
}

CallVerifier::CallVerifier(Session& session, std::string layer, const integrity::ProductShape& shape,
                           const integrity::RoundingModel& rounding, ElementType type,
                           const integrity::WeightFingerprint& weight, bool is_checked, bool follows_weight)
    : session_(session),
      layer_(std::move(layer)),
      rounding_(rounding),
      check_(shape, rounding, weight),
      type_(type),
      is_checked_(is_checked),
      follows_weight_(follows_weight) {}

Probe CallVerifier::of_input() const {
  return with_element_type(type_, [&](auto element) { return Probe(check_.of_input<ElementOf<decltype(element)>>()); });
}

Probe CallVerifier::of_output() const {
  if (!is_checked_) return {};
  return with_element_type(type_,
                           [&](auto element) { return Probe(check_.of_output<ElementOf<decltype(element)>>()); });
}

Probe CallVerifier::of_output_gradient() const {
  return with_element_type(type_, [&](auto element) {
    return Probe(check_.of_output_gradient<ElementOf<decltype(element)>>(follows_weight_));
  });
}

Probe CallVerifier::of_input_gradient() const {
  if (!is_checked_) return {};
  return with_element_type(
      type_, [&](auto element) { return Probe(check_.of_input_gradient<ElementOf<decltype(element)>>()); });
}

Probe CallVerifier::of_weight_gradient() const {
  if (!is_checked_) return {};
  return with_element_type(
      type_, [&](auto element) { return Probe(check_.of_weight_gradient<ElementOf<decltype(element)>>()); });
}

void CallVerifier::see_input(const Probe& x) {
  with_element_type(type_,
                    [&](auto element) { check_.see_input(x.as<ElementOf<decltype(element)>>(), session_.threads()); });
}

void CallVerifier::check_output(const Probe& y, const LargestMixed& largest_mixed) {
  conclude(with_element_type(type_, [&](auto element) { return check_.output(y.as<ElementOf<decltype(element)>>()); }),
           largest_mixed, "forward");
}

void CallVerifier::see_output_gradient(const Probe& dy) {
  with_element_type(type_, [&](auto element) {
    check_.see_output_gradient(dy.as<ElementOf<decltype(element)>>(), session_.threads());
  });
}

void CallVerifier::check_input_gradient(const Probe& dx, const LargestMixed& largest_mixed) {
  conclude(with_element_type(
               type_, [&](auto element) { return check_.input_gradient(dx.as<ElementOf<decltype(element)>>()); }),
           largest_mixed, "input_gradient");
}

void CallVerifier::check_weight_gradient(const Probe& dw) {
  conclude(with_element_type(
               type_, [&](auto element) { return check_.returned_gradient(dw.as<ElementOf<decltype(element)>>()); }),
           {}, "weight_gradient");
}

void CallVerifier::follow_gradient(ConstPlainTensor x, ResidentWeight& resident) {
  resident.gradient_followed(with_element_type(type_,
                                               [&](auto element) {
                                                 return check_.weight_gradient(static_cast<decltype(element)>(x.data),
                                                                               session_.threads());
                                               }),
                             check_.gradient_error());
}

void CallVerifier::conclude(const integrity::Residual& residual, const LargestMixed& largest_mixed, const char* what) {
  const std::string worker = session_.workers().name(), result = fmt::format("{} of {}", what, layer_);
  session_.verifier().conclude(residual, worker, result);
  if (!largest_mixed || rounding_.wire_roundoff == 0 || !residual.is_decidable) return;
  const double deviation = residual.tolerance / integrity::kToleratedDeviations /
                           std::sqrt(static_cast<double>(std::max<size_t>(residual.values.size(), 1)));
  session_.verifier().conclude_entry(largest_mixed(residual.values), kToleratedEntry * deviation, worker, result);
}

}  // namespace tempo::offload
