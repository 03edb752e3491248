// The passes of what stays in the TEE (src/nn/kernels) beside memcpy of the bytes that they read and write.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "benches.h"
#include "nn/kernels/norm_act.h"
#include "nn/kernels/token_ops.h"
#include "yardstick.h"

namespace {

using namespace tempo;
using nn::kernels::NormActKernels;
using nn::kernels::TokenKernels;

/// What a case works on: maps [rows, width] and vectors [width], of values around zero.
struct Operands {
  Operands(int64_t rows_, int64_t width_) : rows(rows_), width(width_) {
    std::mt19937_64 random(1);
    std::normal_distribution<float> normal;
    for (auto* map : {&x, &y, &dy})
      for (int64_t i = 0; i < rows * width; ++i) map->push_back(normal(random));
    for (auto* vector : {&a, &b, &c, &d})
      for (int64_t i = 0; i < width; ++i) vector->push_back(normal(random));
    out.resize(x.size());
    out2.resize(x.size());
    active.assign(x.size(), 0xff);  // alike in every order of the bits
    mean.resize(static_cast<size_t>(rows));
    inverse.assign(static_cast<size_t>(rows), 1.0f);
  }

  int64_t rows, width;
  std::vector<float> x, y, dy, a, b, c, d, mean, inverse, out, out2;
  std::vector<uint8_t> active;
};

/// `body(first element, rows)` for pieces of so many rows, as the layers call kernels that sum.
template <class Body>
void in_pieces(const Operands& o, int64_t piece, const Body& body) {
  for (int64_t first = 0; first < o.rows; first += piece) body(first * o.width, std::min(piece, o.rows - first));
}

template <class Table>
using Pass = std::function<void(const Table&, Operands&)>;

bool agree(const std::vector<float>& got, const std::vector<float>& expected) {
  for (size_t i = 0; i < got.size(); ++i)
    if (!(std::abs(got[i] - expected[i]) <= 1e-3f * (1 + std::abs(expected[i])))) return false;
  return true;
}

/// @param maps that a pass reads and writes, each once
template <class Table>
void add(const std::string& name, int64_t rows, int64_t width, int maps, const Table& best, const Table& reference,
         const Pass<Table>& pass) {
  benchmark::RegisterBenchmark((name + "/" + std::to_string(rows) + "x" + std::to_string(width)).c_str(),
                               [=, &best, &reference](benchmark::State& state) {
                                 Operands operands(rows, width), expected = operands;
                                 pass(reference, expected);
                                 pass(best, operands);
                                 if (!agree(operands.out, expected.out) || !agree(operands.out2, expected.out2)) {
                                   state.SkipWithError("not what the reference computes: timing discarded");
                                   return;
                                 }
                                 bench::time_beside_memcpy(state,
                                                           static_cast<size_t>(rows * width * maps) * sizeof(float),
                                                           [&] { pass(best, operands); });
                               })
      ->MinTime(0.1)
      ->UseManualTime();
}

void add_norm_passes(int64_t rows, int64_t channels) {
  const auto& best = nn::kernels::best_norm_act_kernels();
  const auto& reference = nn::kernels::reference_norm_act_kernels();
  constexpr int64_t kPiece = nn::kernels::kSummedRows;
  const auto pass = [&](const std::string& name, int maps, const Pass<NormActKernels>& body) {
    add<NormActKernels>("batch_norm/" + name, rows, channels, maps, best, reference, body);
  };
  pass("sums", 1, [](const NormActKernels& k, Operands& o) {
    in_pieces(o, kPiece, [&](int64_t at, int64_t count) {
      k.sums({o.x.data() + at, count, o.width}, o.a.data(), o.out.data(), o.out2.data());
    });
  });
  pass("apply_relu_residual", 3, [](const NormActKernels& k, Operands& o) {
    k.apply({o.x.data(), o.rows, o.width}, o.y.data(), {o.a.data(), o.b.data(), true}, o.out.data(), o.active.data());
  });
  pass("gradient_sums", 2, [](const NormActKernels& k, Operands& o) {
    in_pieces(o, kPiece, [&](int64_t at, int64_t count) {
      const nn::kernels::Active active{.bits = o.active.data() + at / o.width * k.active_bytes(o.width)};
      k.gradient_sums({o.x.data() + at, active, o.dy.data() + at, count, o.width}, o.a.data(), o.out.data(),
                      o.out2.data());
    });
  });
  pass("gradient_residual", 4, [](const NormActKernels& k, Operands& o) {
    k.gradient({o.x.data(), {.bits = o.active.data()}, o.dy.data(), o.rows, o.width},
               {o.a.data(), o.b.data(), o.c.data(), o.d.data()}, o.out.data(), o.out2.data());
  });
}

void add_token_passes(int64_t rows, int64_t width) {
  const auto& best = nn::kernels::best_token_kernels();
  const auto& reference = nn::kernels::reference_token_kernels();
  constexpr int64_t kPiece = nn::kernels::kTokenRows;
  const auto pass = [&](const std::string& name, int maps, const Pass<TokenKernels>& body) {
    add<TokenKernels>("tokens/" + name, rows, width, maps, best, reference, body);
  };
  pass("bias_residual", 3, [](const TokenKernels& k, Operands& o) {
    k.add({o.x.data(), o.rows, o.width}, o.a.data(), o.y.data(), o.out.data());
  });
  pass("layer_norm", 2, [](const TokenKernels& k, Operands& o) {
    k.layer_norm({o.x.data(), o.rows, o.width}, {o.a.data(), o.b.data(), 1e-6f}, o.out.data(), o.mean.data(),
                 o.inverse.data());
  });
  pass("layer_norm_gradient", 4, [](const TokenKernels& k, Operands& o) {
    in_pieces(o, kPiece, [&](int64_t at, int64_t count) {
      k.layer_norm_gradient(
          {o.dy.data() + at, count, o.width},
          {o.x.data() + at, o.a.data(), o.mean.data() + at / o.width, o.inverse.data() + at / o.width}, o.y.data() + at,
          {o.out.data() + at, o.c.data(), o.d.data()});
    });
  });
  pass("gelu", 3, [](const TokenKernels& k, Operands& o) {
    k.gelu({o.x.data(), o.rows, o.width}, o.a.data(), o.out.data(), o.out2.data());
  });
  pass("gelu_gradient", 3, [](const TokenKernels& k, Operands& o) {
    in_pieces(o, kPiece, [&](int64_t at, int64_t count) {
      k.gelu_gradient({o.dy.data() + at, count, o.width}, o.x.data() + at, o.out.data() + at, o.c.data());
    });
  });
  pass("softmax", 2,
       [](const TokenKernels& k, Operands& o) { k.softmax(o.x.data(), 0.125f, o.rows, o.width, o.out.data()); });
}

}  // namespace

void tempo::bench::add_layer_benches() {
  add_norm_passes(32768, 64);
  add_norm_passes(16384, 256);
  add_token_passes(2080, 768);
  add_token_passes(2080, 3072);
}
