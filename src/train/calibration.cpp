// Measures the rates of one core. Each figure is the best of a few runs in CPU time, so that other work on the machine
// disturbs little, and each case is of the size of a layer: larger than the second-level cache.
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <limits>
#include <vector>

#include "integrity/projection.h"
#include "obfuscation/blind.h"
#include "obfuscation/key_ring.h"
#include "tempo/worker.h"
#include "train/machine_rates.h"

namespace tempo::train {
namespace {

using contract::Buffer;
using contract::ElementType;
using obfuscation::Form;

constexpr int kRuns = 3;
/// The shapes of blinded operands: many rows of few channels, and fewer rows of more.
constexpr std::pair<int64_t, int64_t> kOperands[] = {{16384, 64}, {4096, 256}};

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// CPU seconds of the fastest run, after one that is not counted.
template <typename Work>
double seconds_of(const Work& work) {
  work();
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kRuns; ++i) {
    const double begin = thread_seconds();
    work();
    best = std::min(best, thread_seconds() - begin);
  }
  return std::max(best, 1e-9);
}

/// LibTorch on the calling thread alone.
class OneThread {
 public:
  OneThread() : before_(at::get_num_threads()) { at::set_num_threads(1); }
  ~OneThread() { at::set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

/// y, dx and dw of a linear layer.
double product_flops_per_second() {
  constexpr int64_t kRows = 1024, kIn = 512, kOut = 512;
  const auto x = torch::ones({kRows, kIn}), w = torch::ones({kOut, kIn}), dy = torch::ones({kRows, kOut});
  const double seconds = seconds_of([&] {
    x.matmul(w.t());
    dy.matmul(w);
    dy.t().matmul(x);
  });
  return 3.0 * 2 * kRows * kIn * kOut / seconds;
}

/// The same of a convolution of 3x3 and one of 1x1.
double convolution_flops_per_second() {
  constexpr int64_t kSide = 10, kImages = 16;  // of fewer images, LibTorch computes 1x1 in another way
  double flops = 0, seconds = 0;
  for (const auto& [channels, kernel] : {std::pair<int64_t, int64_t>{128, 3}, {256, 1}}) {
    const auto layout = torch::MemoryFormat::ChannelsLast;
    const auto x = torch::ones({kImages, channels, kSide, kSide}).contiguous(layout);
    const auto w = torch::ones({channels, channels, kernel, kernel}).contiguous(layout);
    const int64_t padding = kernel / 2;
    seconds += seconds_of([&, channels = channels] {
      const auto y = at::conv2d(x, w, {}, {1, 1}, {padding, padding});
      at::convolution_backward(x, x, w, at::OptionalIntArrayRef(), {1, 1}, {padding, padding}, {1, 1}, false, {0, 0}, 1,
                               {true, true, false});
    });
    flops += 3.0 * 2 * static_cast<double>(kImages * kSide * kSide * channels * channels * kernel * kernel);
  }
  return flops / seconds;
}

double copied_bytes_per_second() {
  const std::vector<char> from(size_t{16} << 20, 1);
  std::vector<char> to(from.size());
  const double seconds = seconds_of([&] { std::memcpy(to.data(), from.data(), from.size()); });
  return 2.0 * static_cast<double>(from.size()) / seconds;
}

Buffer ones(int64_t elements) {
  Buffer buffer = Buffer::allocate({ElementType::kFloat32, {elements}});
  std::fill_n(reinterpret_cast<float*>(buffer.data()), elements, 1.0F);
  return buffer;
}

/// Seconds an element, on the way out and back, averaged over kOperands.
double seconds_to_blind(const BlindingOptions& options, ThreadPool& threads) {
  const obfuscation::KeyRing ring(SecretKey::random(), obfuscation::make_protection(options));
  double sum = 0;
  for (const auto& [rows, channels] : kOperands) {
    const obfuscation::KeyPath path{.layer = "calibration", .pass = {}};
    const auto left = ring.derive(path, obfuscation::KeyRole::kLeft, static_cast<uint32_t>(rows));
    const auto inner = ring.derive(path, obfuscation::KeyRole::kInner, static_cast<uint32_t>(channels));
    contract::PanelLayout panels = ring.protection().wire_panels();
    if (panels.is_set() && channels % panels.width != 0) panels = {};
    const auto geometry = obfuscation::matrix_geometry(rows, channels);
    const Buffer plain = ones(rows * channels), wire = ones(rows * channels);
    const obfuscation::Blinding out{
        .geometry = geometry, .rows = {&left, Form::kDirect}, .channels = {&inner, Form::kDirect}, .panels = panels};
    const obfuscation::Blinding back{
        .geometry = geometry, .rows = {&left, Form::kInverse}, .channels = {&inner, Form::kInverse}, .panels = panels};
    const double seconds = seconds_of([&] {
      obfuscation::blind(out, {{ElementType::kFloat32, plain.data()}}, wire.data(), threads);
      obfuscation::unblind(back, wire.data(), {ElementType::kFloat32, plain.data()}, threads);
    });
    sum += seconds / 2 / static_cast<double>(rows * channels);
  }
  return sum / std::size(kOperands);
}

double seconds_to_verify(ThreadPool& threads) {
  const auto [rows, channels] = kOperands[1];
  const Buffer x = ones(rows * channels), vector = ones(channels), plane = ones(rows);
  const auto floats = [](const Buffer& buffer) { return reinterpret_cast<float*>(buffer.data()); };
  return seconds_of([&] { integrity::project(floats(x), rows, channels, floats(vector), 1, floats(plane), threads); }) /
         static_cast<double>(rows * channels);
}

/// To draw one entry of one round of a key.
double seconds_per_key_entry() {
  constexpr uint32_t kEntries = 16384;
  const auto protection = obfuscation::make_protection({.protection = "rotated"});
  Csprng random(SecretKey::random());
  int rounds = 1;
  const double seconds = seconds_of([&] {
    const obfuscation::Key key = protection->row_key(random, kEntries);
    rounds = std::max(1, static_cast<int>(key.rounds.size()));
  });
  return seconds / rounds / kEntries;
}

}  // namespace

nn::TeeRates measure_rates() {
  const torch::NoGradGuard no_grad;
  const OneThread one_thread;
  ThreadPool threads(1);
  nn::TeeRates rates;
  rates.flops_per_second = product_flops_per_second();
  rates.conv_flops_per_second = convolution_flops_per_second();
  rates.bytes_per_second = copied_bytes_per_second();
  rates.blinding.permute_seconds = seconds_to_blind({.protection = "permuted"}, threads);
  rates.blinding.rotate_seconds = seconds_to_blind({.protection = "rotated", .row_rounds = 1}, threads);
  const double three_rounds = seconds_to_blind({.protection = "rotated", .row_rounds = 3}, threads);
  rates.blinding.row_round_seconds = std::max(0.0, three_rounds - rates.blinding.rotate_seconds) / 2;
  rates.verify_seconds = seconds_to_verify(threads);
  rates.key_seconds_per_entry = seconds_per_key_entry();
  return rates;
}

}  // namespace tempo::train
