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

using obfuscation::ElementOf;

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
    const obfuscation::Blinding how{.geometry = obfuscation::matrix_geometry(1, static_cast<int64_t>(probe.size())),
                                    .rows = {&one_row, obfuscation::Form::kInverse},
                                    .channels = channels,
                                    .wire = ElementType::kFloat64};
    obfuscation::unblind(how, reinterpret_cast<const std::byte*>(probe.data()), {ElementType::kFloat64, plain.data()},
                         threads);
    return plain;
  };
  // Y~ r = Y (K^T r) along channels;  dX~ s = dX (K^-1 s).
  fingerprint.use(unblinded(fingerprint.out_probe(), {&right, obfuscation::Form::kTranspose}),
                  unblinded(fingerprint.in_probe(), {&inner, obfuscation::Form::kInverse}));
}

/// Unit roundoff of a product whose operands are rounded. Both operands are rounded independently, so the error is the
/// square root of two times that of one.
double product_roundoff(ProductPrecision precision) {
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

integrity::RoundingModel rounding_model(const Session& session, ElementType type, ElementType wire,
                                        const DecoyPlan& decoys) {
  const double of_wire = wire == ElementType::kBFloat16 ? 0x1p-9 : 0;
  return {.unit_roundoff = type == ElementType::kFloat64 ? 0x1p-53 : 0x1p-24,
          .wire_roundoff =
              std::hypot(of_wire, type == ElementType::kFloat64 ? 0 : product_roundoff(session.options().products)),
          .gradient_roundoff = of_wire,
          .input_noise = decoys.input_energy,
          .output_noise = decoys.output_energy,
          .key_spread = session.protection().key_spread()};
}

obfuscation::PixelProducts Probe::want() {
  obfuscation::PixelProducts products;
  with_projection(of_, [&](auto& of) {
    const bool sums_once = of.count == 1 && of.column_sums.size() == static_cast<size_t>(of.channels);
    const bool is_little = of.weights.empty() ? of.count <= obfuscation::PixelProducts::kMost : sums_once;
    if (is_little)
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

void Probe::measure(const ConstPlainTensor& x, ThreadPool& threads) {
  with_projection(
      of_, [&]<typename T>(integrity::Projection<T>& of) { of.measure(static_cast<const T*>(x.data), threads); });
}

FingerprintVerifier::FingerprintVerifier(Session& session, VerifiedCall call, const integrity::ProductShape& shape,
                                         const integrity::WeightFingerprint& weight, bool follows_weight)
    : session_(session),
      call_(std::move(call)),
      check_(shape, call_.rounding, weight),
      follows_weight_(follows_weight) {}

Probe FingerprintVerifier::probe_of(Role tensor) const {
  return with_element_type(call_.type, [&](auto element) {
    using T = ElementOf<decltype(element)>;
    switch (tensor) {
      case Role::kX:
        return Probe(check_.of_input<T>());
      case Role::kY:
        return Probe(check_.of_output<T>());
      case Role::kOutputGradient:
        return Probe(check_.of_output_gradient<T>(follows_weight_));
      case Role::kInputGradient:
        return Probe(check_.of_input_gradient<T>());
      case Role::kWeightGradient:
        return Probe(check_.of_weight_gradient<T>());
      case Role::kW:
        break;  // its fingerprint is there already
    }
    return Probe();
  });
}

void FingerprintVerifier::see(Role operand, const Probe& found, const ConstPlainTensor& /*plain*/) {
  if (!found) return;
  with_element_type(call_.type, [&](auto element) {
    using T = ElementOf<decltype(element)>;
    if (operand == Role::kX) check_.see_input(found.as<T>(), session_.threads());
    if (operand == Role::kOutputGradient) check_.see_output_gradient(found.as<T>(), session_.threads());
  });
}

/// One result, with a new probe for each try.
class FingerprintVerifier::Check final : public ResultCheck {
 public:
  Check(FingerprintVerifier& verifier, const KeyedTensor& result) : verifier_(verifier), result_(result) {}

  obfuscation::PixelProducts want() override {
    probe_ = verifier_.probe_of(result_.role);
    return probe_.want();
  }
  void check(const PlainTensor& result, bool is_taken) override {
    if (is_taken)
      probe_.arrived();
    else
      probe_.measure(result, verifier_.session_.threads());
    verifier_.conclude(result_, probe_);
  }

 private:
  FingerprintVerifier& verifier_;
  const KeyedTensor& result_;
  Probe probe_;
};

std::unique_ptr<ResultCheck> FingerprintVerifier::check_of(const KeyedTensor& result) {
  return call_.is_checked ? std::make_unique<Check>(*this, result) : nullptr;
}

void FingerprintVerifier::conclude(const KeyedTensor& result, const Probe& found) {
  const integrity::Residual residual = with_element_type(call_.type, [&](auto element) {
    const auto& projection = found.as<ElementOf<decltype(element)>>();
    if (result.role == Role::kY) return check_.output(projection);
    return result.role == Role::kInputGradient ? check_.input_gradient(projection)
                                               : check_.returned_gradient(projection);
  });
  const std::string what = fmt::format("{} of {}", contraction_of(result.role).name, call_.layer);
  session_.verifier().conclude(residual, session_.workers().name(), what);
  const bool mixes = session_.protection().mixes_rows() && result.role != Role::kWeightGradient;
  if (mixes && call_.rounding.wire_roundoff > 0 && residual.is_decidable) check_largest_entry(result, residual, what);
}

/// Mixes the residual over pixels as the blinded result was mixed, because an error of a narrow wire is alike there.
void FingerprintVerifier::check_largest_entry(const KeyedTensor& result, const integrity::Residual& residual,
                                              const std::string& what) {
  const obfuscation::Key identity{.size = 1, .rounds = {}};
  obfuscation::Blinding how = result.blinding(0);
  how.geometry.channels = 1;
  how.geometry.mixes_positions = false;
  how.panels = {};  // one column is none
  how.rows.form = result.role == Role::kY ? Form::kDirect : Form::kInverseTranspose;
  how.channels = {&identity, Form::kDirect};
  how.wire = ElementType::kFloat64;
  how.decoy_images = 0;
  // The residual of the decoys is not known, and is taken to be zero.
  std::vector<double> image(static_cast<size_t>(how.geometry.images * how.geometry.height * how.geometry.width));
  std::copy(residual.values.begin(), residual.values.end(), image.begin());
  std::vector<double> mixed(static_cast<size_t>(how.geometry.elements()));
  obfuscation::blind(how, {{ElementType::kFloat64, image.data()}}, reinterpret_cast<std::byte*>(mixed.data()),
                     session_.threads());
  double largest = 0;
  for (const double value : mixed) largest = std::max(largest, std::abs(value));
  const double deviation = residual.tolerance / integrity::kToleratedDeviations /
                           std::sqrt(static_cast<double>(std::max<size_t>(residual.values.size(), 1)));
  session_.verifier().conclude_entry(largest, kToleratedEntry * deviation, session_.workers().name(), what);
}

void FingerprintVerifier::follow_gradient(const ConstPlainTensor& x, ResidentWeight& resident) {
  resident.gradient_followed(with_element_type(call_.type,
                                               [&](auto element) {
                                                 return check_.weight_gradient(static_cast<decltype(element)>(x.data),
                                                                               session_.threads());
                                               }),
                             check_.gradient_error());
}

class MatmulVerifier::Check final : public ResultCheck {
 public:
  Check(MatmulVerifier& verifier, Role result) : verifier_(verifier), result_(result) {}
  void check(const PlainTensor& result, bool /*is_taken*/) override { verifier_.conclude(result_, result); }

 private:
  MatmulVerifier& verifier_;
  Role result_;
};

void MatmulVerifier::see(Role operand, const Probe& /*found*/, const ConstPlainTensor& plain) {
  (operand == Role::kX ? a_ : operand == Role::kW ? b_ : dc_) = plain;
}

std::unique_ptr<ResultCheck> MatmulVerifier::check_of(const KeyedTensor& result) {
  return call_.is_checked ? std::make_unique<Check>(*this, result.role) : nullptr;
}

void MatmulVerifier::conclude(Role result, const PlainTensor& found) {
  Csprng secret = session_.verifier().stream(call_.layer);
  const auto residual = with_element_type(call_.type, [&](auto element) {
    using Pointer = decltype(element);
    const auto plain = [](const ConstPlainTensor& tensor) { return static_cast<Pointer>(tensor.data); };
    ThreadPool& threads = session_.threads();
    if (result == Role::kY)
      return integrity::check_matmul(shape_, call_.rounding, plain(a_), plain(b_), plain(found), secret, threads);
    if (result == Role::kInputGradient)
      return integrity::check_matmul_da(shape_, call_.rounding, plain(b_), plain(dc_), plain(found), secret, threads);
    return integrity::check_matmul_db(shape_, call_.rounding, plain(a_), plain(dc_), plain(found), secret, threads);
  });
  session_.verifier().conclude(residual, session_.workers().name(),
                               fmt::format("{} of {}", contraction_of(result).name, call_.layer));
}

}  // namespace tempo::offload
