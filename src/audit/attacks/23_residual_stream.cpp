// Layers that read one residual stream.
// What the attacker has: products of X~ of two layers that read the same residual stream, one block apart, pooled over
// all steps that it can link (evidence.h); the architecture says which layers these are.
// Algorithm: a block adds to the stream and keeps its channels, so second moments of what both layers read are alike:
// M_1^T C M_1 and M_2^T C' M_2 with C' near C. Matching them as known activations are matched (algebra/gram_key.h)
// gives M_1^T M_2, and all that is pooled of one layer adds to what is pooled of the other.
// Source: Umeyama 1988; own analysis.
// Success: median |cos| of rows of the estimated and the true M_1^T M_2, row by row.
// Chance: random orthogonal matrices.
// Known to work: blocks that add little to the stream.
#include <fmt/format.h>

#include <algorithm>

#include "audit/algebra/matching.h"
#include "audit/attacks/attacks.h"
#include "audit/attacks/evidence.h"

namespace tempo::audit {
namespace residual_stream {
namespace {

constexpr int kNumber = 23;
constexpr const char* kTarget = "keys of layers of one residual stream";

/// The next layer that reads the stream which this one reads; nullptr if there is none.
const LayerCase* next_reader(const LayerCase& layer) {
  const LayerCase* last_of_block = layer.next;
  if (last_of_block == nullptr || !last_of_block->adds_shortcut) return nullptr;
  return last_of_block->next;
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  const auto nothing = [](const char* why) { return std::vector{not_applicable(kNumber, kTarget, why)}; };
  const LayerCase* other = next_reader(layer);
  if (other == nullptr) return nothing("no other layer reads the stream that this one reads");
  if (layer.view.empty() || layer.truth.empty() || other->view.empty() || other->truth.empty())
    return nothing("nothing recorded");
  const Matrix &inner = layer.truth.front().inner, &other_inner = other->truth.front().inner;
  if (inner.rows() != other_inner.rows() || inner.rows() < 2) return nothing("the stream changes its channels");
  const Evidence here = pool_evidence(layer), there = pool_evidence(*other);
  if (here.products.size() == 0 || here.products.rows() != there.products.rows() || here.positions() < 2)
    return nothing("no products of this shape");

  const Matrix truth = inner.transpose() * other_inner;
  Chance chance = measure_chance(20, [&] { return median_row_cosine(random_orthogonal(truth.rows(), random), truth); });
  // The median of d half-normal variables of scale 1/sqrt(d) has deviation 0.79/d.
  chance.stddev = std::max(chance.stddev, 0.79 / static_cast<double>(truth.rows()));
  Finding finding = scored(kNumber, kTarget, "median |cos| of rows of the change of M",
                           median_row_cosine(key_between(here.products, there, random), truth), chance);
  finding.note = fmt::format("{} steps, with {}", here.steps, other->layer);
  return {finding};
}

}  // namespace
}  // namespace residual_stream

const Attack kResidualStream{residual_stream::kNumber,
                             "residual stream",
                             "Can a worker relate the keys of layers that read the same residual stream?",
                             "the architecture",
                             "Umeyama 1988; own analysis",
                             residual_stream::run};

}  // namespace tempo::audit
