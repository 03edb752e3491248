// Peeling of keys of Hadamard blocks.
// What the attacker has: the products X~^T X~ of one step; how keys are made of rounds.
// Algorithm: X~^T X~ = M^T C M. If decoys make C nearly white, its products are those of M, and M is peeled from the
//   outside: before the last mixing round values have different scales, so products of two channels of one Hadamard
//   block depend on the exclusive or of their places (algebra/hadamard_peeling.h). With that round undone the next one
//   lies outside. After two mixing rounds what is left is an order, scales and signs, as under `permuted`.
// Source: own analysis; simulated annealing (Kirkpatrick et al., 1983), spectral clustering (Ng et al., 2001).
// Success: median |cos| of rows of the guess and of M, matched one to one.
// Chance: the same guess against fresh keys of the same structure.
// Known to work: white operands, under keys with scales in every round. One step is enough.
#include <fmt/format.h>

#include "audit/algebra/decompositions.h"
#include "audit/algebra/hadamard_peeling.h"
#include "audit/algebra/matching.h"
#include "audit/attacks/attacks.h"
#include "audit/dense_key.h"
#include "base/csprng.h"
#include "obfuscation/protection.h"

namespace tempo::audit {
namespace key_peeling {
namespace {

constexpr int kNumber = 28;
constexpr const char* kTarget = "M, peeled off the products of one step";
constexpr Eigen::Index kBlock = 16, kMostFeatures = 600;

/// Of the whole rows that the inner key acts on; empty if there are none.
Matrix products_of(const StepView& view, Eigen::Index size) {
  if (view.x_products.rows() == size) return view.x_products;
  if (view.x.empty() || view.x.positions() * view.x.channels != size || size > kMostFeatures) return {};
  const Matrix rows = view.x.by_row();
  return rows.transpose() * rows;
}

Chance chance_of(const Matrix& guess) {
  uint64_t number = 0;
  const auto scheme = obfuscation::make_protection({.protection = "oblique", .reuse = Reuse::kSplit});
  return measure_chance(guess.rows() > 300 ? 4 : 12, [&] {
    Csprng stream(derive_key(key_from_seed_insecure(++number), "audit-fresh-keys"));
    const auto key = scheme->channel_key(stream, static_cast<uint32_t>(guess.rows()));
    return match_directions(guess, dense_key(key, obfuscation::Form::kDirect)).median_cosine;
  });
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  const auto nothing = [](const char* why) { return std::vector{not_applicable(kNumber, kTarget, why)}; };
  if (layer.view.empty() || layer.truth.empty()) return nothing("nothing recorded");
  const Matrix& inner = layer.truth.front().inner;
  if (inner.rows() < 2 || inner.rows() % kBlock != 0) return nothing("channels are no multiple of a block");
  const Matrix products = products_of(layer.view.front(), inner.rows());
  if (products.size() == 0) return nothing("no products of whole rows");

  const PeeledRound last = peel_round(products, layer.patience, random);
  const PeeledRound first = peel_round(last.rows * products * last.rows.transpose(), layer.patience, random);
  const Matrix guess = inverse_of((first.rows * last.rows).transpose());
  if (!guess.allFinite()) return nothing("products have no inverse");
  Finding finding = scored(kNumber, kTarget, "median |cos| of matched directions",
                           match_directions(guess, inner).median_cosine, chance_of(guess));
  finding.note = fmt::format("one step, agreement {:.2f} and {:.2f}", last.agreement, first.agreement);
  return {finding};
}

}  // namespace
}  // namespace key_peeling

const Attack kKeyPeeling{key_peeling::kNumber,
                         "peeling of keys",
                         "Do products of one step give a key of Hadamard blocks away?",
                         "how keys are made",
                         "Kirkpatrick et al., 1983; Ng et al., 2001; own analysis",
                         key_peeling::run};

}  // namespace tempo::audit
