// What it gains to take a batch norm along while an operand is blinded, or a result un-blinded: the same work in one
// pass and in passes of their own, one thread, beside memcpy of what the one pass reads and writes. Every result is
// compared with that of the separate passes before it is timed.
#include <benchmark/benchmark.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "benches.h"
#include "blind_case.h"
#include "nn/kernels/norm_act.h"
#include "obfuscation/blind.h"
#include "yardstick.h"

namespace {

using namespace tempo;
using namespace tempo::obfuscation;
using nn::kernels::best_norm_act_kernels;
using nn::kernels::kSummedRows;

/// A map of rows, its keys, and everything a batch norm has.
class Fixture {
 public:
  Fixture(int64_t rows, int64_t channels)
      : geometry_(matrix_geometry(rows, channels)),
        rows_(bench::random_key(rows, bench::kPermuteAndScale, random_)),
        channels_(bench::random_key(channels, bench::kPermuteAndScale, random_)) {
    for (auto* map : {&x_, &y_, &wire_}) *map = bench::buffer(ElementType::kFloat32, rows * channels);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < rows * channels; ++i) floats(x_)[i] = normal(random_);
    for (auto* values : {&a_, &b_}) {
      values->resize(static_cast<size_t>(channels));
      for (float& value : *values) value = normal(random_);
    }
    sums_.resize(static_cast<size_t>(2 * channels));
    normalise();
  }

  void normalise() {
    best_norm_act_kernels().apply({floats(x_), geometry_.rows(), width()}, nullptr, {a_.data(), b_.data(), true},
                                  floats(y_), nullptr);
  }
  void blind(const std::byte* from, const ChannelAffine* map = nullptr) {
    obfuscation::blind({geometry_, {&rows_, Form::kDirect}, {&channels_, Form::kDirect}},
                       {{ElementType::kFloat32, from}}, wire_.data(), bench::one_thread(), {.map = map});
  }
  void normalise_then_blind() {
    normalise();
    blind(y_.data());
  }
  void normalise_while_blinding() {
    const ChannelAffine map{a_, b_, true};
    blind(x_.data(), &map);
  }
  void unblind(const PixelMoments& moments = {}) {
    obfuscation::unblind({geometry_, {&rows_, Form::kInverse}, {&channels_, Form::kInverse}}, wire_.data(),
                         {ElementType::kFloat32, y_.data()}, bench::one_thread(), {.moments = moments});
  }
  void unblind_then_sum() {
    unblind();
    std::fill(sums_.begin(), sums_.end(), 0);
    std::vector<float> sum(a_.size()), squares(a_.size());
    for (int64_t row = 0; row < geometry_.rows(); row += kSummedRows) {
      best_norm_act_kernels().sums({floats(y_) + row * width(), std::min(kSummedRows, geometry_.rows() - row), width()},
                                   a_.data(), sum.data(), squares.data());
      for (size_t c = 0; c < a_.size(); ++c)
        sums_[c] += static_cast<double>(sum[c]), sums_[a_.size() + c] += static_cast<double>(squares[c]);
    }
  }
  void sum_while_unblinding() { unblind({a_.data(), sums_.data(), sums_.data() + a_.size()}); }

  [[nodiscard]] std::vector<double> blinded() const {
    return {reinterpret_cast<const float*>(wire_.data()),
            reinterpret_cast<const float*>(wire_.data()) + geometry_.elements()};
  }
  [[nodiscard]] const std::vector<double>& sums() const { return sums_; }
  [[nodiscard]] size_t map_bytes() const { return wire_.bytes(); }

 private:
  static float* floats(const bench::Bytes& map) { return reinterpret_cast<float*>(map.data()); }
  [[nodiscard]] int64_t width() const { return geometry_.channels; }

  TileGeometry geometry_;
  bench::Random random_{1};
  Key rows_, channels_;
  bench::Bytes x_, y_, wire_;
  std::vector<float> a_, b_;
  std::vector<double> sums_;
};

using Work = void (Fixture::*)();

/// @param maps that the one pass reads and writes
template <class Result>
void add(const std::string& name, int64_t rows, int64_t channels, size_t maps, Work apart, Work fused,
         const Result& result) {
  const std::string suffix = "/" + std::to_string(rows) + "x" + std::to_string(channels);
  for (const bool is_fused : {false, true})
    benchmark::RegisterBenchmark((name + (is_fused ? "/fused" : "/apart") + suffix).c_str(),
                                 [=](benchmark::State& state) {
                                   Fixture fixture(rows, channels);
                                   (fixture.*apart)();
                                   const std::vector<double> expected = result(fixture);
                                   (fixture.*fused)();
                                   const std::vector<double> found = result(fixture);
                                   double apart_by = 0, norm = 0;
                                   for (size_t i = 0; i < expected.size(); ++i) {
                                     apart_by += std::pow(found[i] - expected[i], 2);
                                     norm += std::pow(expected[i], 2);
                                   }
                                   if (!(std::sqrt(apart_by) <= 1e-5 * std::sqrt(norm)))
                                     return state.SkipWithError("not what the separate passes compute");
                                   bench::time_beside_memcpy(state, maps * fixture.map_bytes(),
                                                             [&] { (fixture.*(is_fused ? fused : apart))(); });
                                 })
        ->MinTime(0.2)
        ->UseManualTime();
}

}  // namespace

void tempo::bench::add_fused_benches() {
  const auto blinded = [](const Fixture& f) { return f.blinded(); };
  const auto sums = [](const Fixture& f) { return f.sums(); };
  for (const auto& [rows, channels] : {std::pair{32768, 64}, {16384, 256}, {8192, 512}, {32768, 256}}) {
    add("norm_relu_blind", rows, channels, 2, &Fixture::normalise_then_blind, &Fixture::normalise_while_blinding,
        blinded);
    add("unblind_moments", rows, channels, 2, &Fixture::unblind_then_sum, &Fixture::sum_while_unblinding, sums);
  }
}
