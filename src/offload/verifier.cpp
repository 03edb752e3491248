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

/// Deviations of one entry of a mixed residual that are tolerated. The largest of millions is within six, but rows are
/// not mixed evenly: some carry two or three times their share.
constexpr double kToleratedEntry = 14;

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

integrity::RoundingModel rounding_model(const BlindingOptions& options, ElementType type, ElementType wire,
                                        double input_noise, double output_noise) {
  // Root mean square of the scales times that of their reciprocals: 3.04 for 1..16, 2.87 for log-uniform in [1/4, 4].
  constexpr double kSpreadOfScales = 3.1;
  return {.unit_roundoff = type == ElementType::kFloat64 ? 0x1p-53 : 0x1p-24,
          .wire_roundoff = wire == ElementType::kBFloat16 ? 0x1p-9 : 0,
          .input_noise = input_noise,
          .output_noise = output_noise,
          .key_spread = options.protection == Protection::kPermuted ? kSpreadOfScales : 1};
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

void CallVerifier::see_input(ConstPlainTensor x) {
  with_element_type(type_, [&](auto element) {
    check_.see_input(static_cast<decltype(element)>(x.data), follows_weight_, session_.threads());
  });
}

void CallVerifier::check_output(ConstPlainTensor y, const LargestMixed& largest_mixed) {
  if (!is_checked_) return;
  conclude(with_element_type(
               type_,
               [&](auto element) { return check_.output(static_cast<decltype(element)>(y.data), session_.threads()); }),
           largest_mixed, "forward");
}

void CallVerifier::see_output_gradient(ConstPlainTensor dy) {
  with_element_type(type_, [&](auto element) {
    check_.see_output_gradient(static_cast<decltype(element)>(dy.data), session_.threads());
  });
}

void CallVerifier::check_input_gradient(ConstPlainTensor dx, const LargestMixed& largest_mixed) {
  if (!is_checked_) return;
  conclude(with_element_type(type_,
                             [&](auto element) {
                               return check_.input_gradient(static_cast<decltype(element)>(dx.data),
                                                            session_.threads());
                             }),
           largest_mixed, "input_gradient");
}

integrity::Projections CallVerifier::project_gradient(ConstPlainTensor x, ConstPlainTensor dy) {
  return with_element_type(type_, [&](auto element) {
    using Pointer = decltype(element);
    return check_.weight_gradient(static_cast<Pointer>(x.data), static_cast<Pointer>(dy.data), session_.threads());
  });
}

void CallVerifier::check_weight_gradient(const integrity::Projections& expected, ConstPlainTensor dw) {
  if (!is_checked_) return;
  conclude(with_element_type(type_,
                             [&](auto element) {
                               return check_.returned_gradient(expected, static_cast<decltype(element)>(dw.data),
                                                               session_.threads());
                             }),
           {}, "weight_gradient");
}

void CallVerifier::follow_gradient(ConstPlainTensor x, ConstPlainTensor dy, ResidentWeight& resident) {
  resident.gradient_followed(project_gradient(x, dy), gradient_error());
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
