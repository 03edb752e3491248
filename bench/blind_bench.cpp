// How fast blinding is beside memcpy of the same size in the same run, on one thread, in CPU time.
//   GB/s        useful bytes per second: one read of the source, one write of the destination
//   of_memcpy   the same over memcpy's
// Every result is compared with the reference kernels before it is timed.
#include <benchmark/benchmark.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "benches.h"
#include "blind_case.h"
#include "obfuscation/blind.h"
#include "yardstick.h"

namespace {

using namespace tempo;
using namespace tempo::obfuscation;
using namespace tempo::bench;

struct Case {
  TileGeometry geometry;
  KeyShape rows, channels;
  ElementType wire = ElementType::kFloat32;
  contract::PanelLayout panels = {};

  [[nodiscard]] Blinding blinding(KeyUse row_key, KeyUse channel_key) const {
    return {.geometry = geometry, .rows = row_key, .channels = channel_key, .wire = wire, .panels = panels};
  }
};

constexpr contract::PanelLayout kPanels = {.width = 16, .rows = 256};

Case rotated_case(int64_t rows, int64_t channels, KeyShape row_key, int channel_rounds) {
  return {matrix_geometry(rows, channels), row_key, rotation(channel_rounds)};
}

Case permuted_case(int64_t rows, int64_t channels) {
  return {matrix_geometry(rows, channels), kPermuteAndScale, kPermuteAndScale};
}

/// The input of a 3x3 convolution over 32 x 32 images in tiles of so many outputs a side, which overlap.
Case tile_case(int64_t channels, int64_t tile, KeyShape row_key, int channel_rounds) {
  const ConvAxis axis = {.size = 32, .kernel = 3, .padding = 1};
  return {tile_convolution(2048 / channels, axis, axis, {channels, channels}, tile).input, row_key,
          rotation(channel_rounds)};
}

Case narrow(Case c) {
  c.wire = ElementType::kBFloat16;
  return c;
}

/// Both directions of one case.
class Fixture {
 public:
  explicit Fixture(const Case& c)
      : case_(c),
        rows_(random_key(c.geometry.rows(), c.rows, random_)),
        channels_(random_key(c.geometry.key_channels(), c.channels, random_)),
        x_(buffer(ElementType::kFloat32, image_elements())),
        wire_(buffer(c.wire, c.geometry.elements())) {
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < image_elements(); ++i) image()[i] = normal(random_);
  }

  void blind() {
    obfuscation::blind(case_.blinding({&rows_, Form::kDirect}, {&channels_, Form::kDirect}),
                       {{ElementType::kFloat32, image()}}, wire_.data(), one_thread());
  }
  void unblind() {
    obfuscation::unblind(case_.blinding({&rows_, Form::kInverse}, {&channels_, Form::kInverse}), wire_.data(),
                         {ElementType::kFloat32, image()}, one_thread());
  }
  [[nodiscard]] std::vector<std::byte> blinded() const { return {wire_.data(), wire_.data() + wire_.bytes()}; }
  [[nodiscard]] std::vector<std::byte> unblinded() const { return {x_.data(), x_.data() + x_.bytes()}; }
  [[nodiscard]] size_t useful_bytes() const { return x_.bytes() + wire_.bytes(); }

 private:
  [[nodiscard]] int64_t image_elements() const {
    const TileGeometry& g = case_.geometry;
    return g.images * g.height * g.width * g.channels;
  }
  [[nodiscard]] float* image() const { return reinterpret_cast<float*>(x_.data()); }

  Case case_;
  Random random_{1};
  Key rows_, channels_;
  Bytes x_, wire_;
};

template <class Run, class Result>
void measure(benchmark::State& state, Fixture& fixture, const Run& run, const Result& result) {
  {
    const ScopedIsa reference(supported_isas().back());
    run();
  }
  const auto expected = result();
  run();
  if (result() != expected) {
    state.SkipWithError("not what the reference computes: timing discarded");
    return;
  }
  bench::time_beside_memcpy(state, fixture.useful_bytes(), run);
}

void blind_bench(benchmark::State& state, const Case& c) {
  Fixture fixture(c);
  measure(
      state, fixture, [&] { fixture.blind(); }, [&] { return fixture.blinded(); });
}

void unblind_bench(benchmark::State& state, const Case& c) {
  Fixture fixture(c);
  fixture.blind();
  measure(
      state, fixture, [&] { fixture.unblind(); }, [&] { return fixture.unblinded(); });
}

void add(const std::string& name, const Case& c) {
  benchmark::RegisterBenchmark(("blind/" + name).c_str(), blind_bench, c)->MinTime(0.1)->UseManualTime();
  benchmark::RegisterBenchmark(("unblind/" + name).c_str(), unblind_bench, c)->MinTime(0.1)->UseManualTime();
}

}  // namespace

int tempo::bench::run_kernels(int argc, char** argv) {
  // 4 MiB lies in a large third-level cache, where memcpy is at its best; 16 MiB and more is what a layer has.
  for (const auto& [rows, channels] : {std::pair{16384, 64}, {65536, 64}, {16384, 256}}) {
    const std::string suffix = "/" + std::to_string(rows) + "x" + std::to_string(channels);
    add("permute_scale" + suffix, permuted_case(rows, channels));
    add("one_round_each" + suffix, rotated_case(rows, channels, rotation(1), 1));
    add("rows_fully_channels_2" + suffix, rotated_case(rows, channels, kMixedFully, 2));
    add("rows_fully_channels_2_bf16" + suffix, narrow(rotated_case(rows, channels, kMixedFully, 2)));
    add("rows_4_of_16_channels_2" + suffix, rotated_case(rows, channels, rotation(4), 2));
    add("oblique" + suffix, {matrix_geometry(rows, channels), kMixedFully, kObliqueChannels});
  }
  for (const auto& [rows, channels] : {std::pair{65536, 64}, {16384, 256}, {8192, 768}, {8192, 3072}, {4096, 4096}}) {
    const std::string suffix = "/" + std::to_string(rows) + "x" + std::to_string(channels);
    for (const bool in_panels : {false, true}) {
      const contract::PanelLayout panels = in_panels ? kPanels : contract::PanelLayout{};
      const std::string where = in_panels ? "_in_panels" : "";
      const TileGeometry matrix = matrix_geometry(rows, channels);
      add("groups_of_4096" + where + suffix, {matrix, in_groups(4096), kLeftAlone, ElementType::kFloat32, panels});
      add("groups_of_4096_channels_2" + where + suffix,
          {matrix, in_groups(4096), rotation(2), ElementType::kFloat32, panels});
    }
  }
  add("permute_scale/2080x3072", permuted_case(2080, 3072));  // of a ViT-Base: rows too long for the first cache
  for (const int64_t channels : {64, 256}) {
    const std::string suffix = "/" + std::to_string(channels) + "ch";
    for (const int64_t tile : {1, 4}) {
      const std::string name = "conv3x3_tile" + std::to_string(tile);
      add(name + "_permute_scale" + suffix,
          {tile_case(channels, tile, kPermuteAndScale, 1).geometry, kPermuteAndScale, kPermuteAndScale});
      add(name + "_rows_fully_channels_2" + suffix, tile_case(channels, tile, kMixedFully, 2));
      Case grouped = tile_case(channels, tile, in_groups(4096), 2);
      add(name + "_groups_of_4096_channels_2" + suffix, grouped);
      if (tile == 1)
        for (const KeyShape& row_key : {kMixedFully, in_groups(4096)}) {
          Case oblique = {grouped.geometry, row_key, kObliqueChannels, ElementType::kFloat32, kPanels};
          oblique.geometry.mixes_positions = true;
          add(name + (row_key.group == 0 ? "_oblique" : "_oblique_groups_of_4096") + suffix, oblique);
        }
      grouped.panels = kPanels;
      add(name + "_groups_of_4096_channels_2_in_panels" + suffix, grouped);
    }
  }
#ifdef TEMPO_BENCH_TRAIN
  add_layer_benches();
  add_fused_benches();
#endif
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
