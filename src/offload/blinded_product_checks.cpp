// BlindedProduct's verification: which calls are verified, and when their operands and results are measured.
#include <algorithm>
#include <cmath>
#include <utility>

#include "offload/blinded_product_call.h"
#include "offload/stopwatch.h"

namespace tempo::offload {

using obfuscation::Form;
using obfuscation::TileGeometry;

void BlindedProduct::begin_verification(Call& call, ConstPlainTensor w) {
  const bool is_checked = session_.verifier().draw();
  // A resident weight's fingerprint must follow every update, checked or not.
  const bool is_trained = call.pass.period == obfuscation::Period::kStep;
  const bool is_followed = session_.verifier().is_on() && resident_ && is_trained;
  if (!is_checked && !is_followed) return;
  const Stopwatch watch(session_.counters().verify_seconds);
  if (fingerprint_) {
    use_keys(*fingerprint_, *call.keys.inner, *call.keys.right, session_.threads());
    with_element_type(
        w.type, [&](auto element) { fingerprint_->take(static_cast<decltype(element)>(w.data), session_.threads()); });
  }
  const ProductGeometry& g = geometry_;
  const integrity::ProductShape shape{.images = call.shape.images,
                                      .height = call.shape.height,
                                      .width = call.shape.width,
                                      .in = g.in,
                                      .out_height = call.cut.output.height,
                                      .out_width = call.cut.output.width,
                                      .out = g.out,
                                      .kernel_h = g.kernel_h,
                                      .kernel_w = g.kernel_w,
                                      .stride = g.stride,
                                      .padding = g.padding,
                                      .dilation = g.dilation};
  const auto rounding =
      rounding_model(session_.options(), call.type, call.wire, call.decoys.input_energy, call.decoys.output_energy);
  call.verifier.emplace(session_, layer_, shape, rounding, call.type,
                        resident_ ? *resident_->fingerprint() : *fingerprint_, is_checked, is_followed);
}

void BlindedProduct::measure(Probe& probe, ConstPlainTensor x) {
  const Stopwatch watch(session_.counters().verify_seconds);
  probe.measure(x, session_.threads());
}

void BlindedProduct::unblind_and_check(const Session::ArrivingReply& blinded, const TileGeometry& geometry,
                                       Session::UnblindItem item, Probe probe, const Check& check) {
  const obfuscation::Key &rows = *item.rows.key, &channels = *item.channels.key;
  const bool on_the_way = probe.fits(rows, channels);
  if (on_the_way) item.products = probe.on_the_way();
  // Verification and observers must see the result without the addend.
  const bool adds_on_the_way = (!probe || on_the_way) && !session_.is_observed() && item.decoy_images == 0 &&
                               obfuscation::takes_addend(geometry, rows, channels);
  const void* const addend = adds_on_the_way ? nullptr : std::exchange(item.addend, nullptr);
  session_.unblind(blinded, geometry, item);
  if (probe) {
    on_the_way ? probe.arrived() : measure(probe, item.x);
    const Stopwatch watch(session_.counters().verify_seconds);
    check(probe);
  }
  if (addend == nullptr) return;
  const Stopwatch watch(session_.counters().unblind_seconds);
  const int64_t elements = (geometry.images - item.decoy_images) * geometry.height * geometry.width * geometry.channels;
  with_element_type(item.x.type, [&](auto element) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(element)>>;
    obfuscation::add(static_cast<T*>(item.x.data), static_cast<const T*>(addend), elements, session_.threads());
  });
}

CallVerifier::LargestMixed BlindedProduct::largest_mixed(const TileGeometry& geometry, obfuscation::KeyUse rows) {
  if (session_.options().protection != Protection::kRotated) return {};
  return [this, geometry, rows](const std::vector<double>& residual) {
    TileGeometry pixels = geometry;
    pixels.channels = 1;
    // The residual of the decoys is not known, and is taken to be zero.
    std::vector<double> image(static_cast<size_t>(pixels.images * pixels.height * pixels.width));
    std::copy(residual.begin(), residual.end(), image.begin());
    std::vector<double> mixed(static_cast<size_t>(pixels.elements()));
    const obfuscation::Key identity{.size = 1, .rounds = {}};
    obfuscation::blind(image.data(), pixels, rows, {&identity, Form::kDirect}, ElementType::kFloat64,
                       reinterpret_cast<std::byte*>(mixed.data()), session_.threads());
    double largest = 0;
    for (const double value : mixed) largest = std::max(largest, std::abs(value));
    return largest;
  };
}

void BlindedProduct::follow_gradient(Call& call, ConstPlainTensor x) {
  if (!call.verifier) return;
  const Stopwatch watch(session_.counters().verify_seconds);
  call.verifier->follow_gradient(x, *resident_);
}

void BlindedProduct::unblind_gradient(Call& call, const ProductKeys& keys, const Buffer& blinded, PlainTensor dw) {
  unblind_and_check({blinded, blinded.spec().type}, weight_geometry_,
                    {dw, {keys.right.get(), Form::kTranspose}, {keys.inner.get(), Form::kInverse}},
                    call.verifier ? call.verifier->of_weight_gradient() : Probe(),
                    [&](const Probe& found) { call.verifier->check_weight_gradient(found); });
}

void BlindedProduct::check_gradient(Call& call, const ProductKeys& keys, const Buffer& sum) {
  if (!call.verifier) return;
  const Buffer plain = Buffer::allocate(sum.spec());
  unblind_gradient(call, keys, sum, {call.type, plain.data()});
}

}  // namespace tempo::offload
