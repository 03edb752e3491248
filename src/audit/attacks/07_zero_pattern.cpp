// Zero pattern.
// What the attacker has: X~, and a guess of where X is zero (activations of a model of its own; the true zeros are
// tried as an upper bound). For "zeros in plain sight" and for linking two steps it needs nothing.
// Algorithm: keys that only move and scale leave the zeros of ReLU activations alone. Rows and channels are the two
// sides of a graph, every zero an edge labelled with its position in the tile. Colour refinement gives equal colours to
// equal places in the known and in the blinded graph; unique colours name rows and channels. Channels left over are
// matched by how often they are zero at each position (Hungarian method). The same frequencies link channels of two
// steps under different keys.
// Source: colour refinement of Weisfeiler and Leman (1968).
// Success: share of channels whose column is found; share of rows whose plain row is found (at most 2,000 rows are
// scored); of the zeros of X the share that X~ still shows; share of channels linked.
// Chance: random permutations. For visible zeros: 0, as a key that mixes leaves none.
// Positions are thinned out to about 4 million entries; rows cannot be, being in secret order.
#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "audit/algebra/decompositions.h"
#include "audit/algebra/ownership.h"
#include "audit/attacks/attacks.h"

namespace tempo::audit {
namespace zero_pattern {
namespace {

constexpr int kNumber = 7;
constexpr int64_t kCells = 4'000'000, kScoredRows = 2000;
constexpr int kRounds = 3;

/// Where an operand is exactly zero: zero[(row * positions + position) * channels + channel].
struct Zeros {
  int64_t rows = 0, positions = 0, channels = 0;
  std::vector<uint8_t> zero;

  [[nodiscard]] const uint8_t* at(int64_t row, int64_t position) const {
    return zero.data() + (row * positions + position) * channels;
  }
};

/// Positions are thinned out by `rows`, which must be equal for operands that are compared.
Zeros zeros_of(const Operand& x, int64_t rows) {
  float largest = 0;
  for (const float v : x.values) largest = std::max(largest, std::abs(v));
  const float floor = 1e-12F * largest;
  const std::vector<int64_t> read =
      spread(x.positions(), std::max<int64_t>(1, kCells / std::max<int64_t>(1, rows * x.channels)));
  Zeros zeros{.rows = x.rows, .positions = static_cast<int64_t>(read.size()), .channels = x.channels, .zero = {}};
  zeros.zero.reserve(static_cast<size_t>(zeros.rows * zeros.positions * zeros.channels));
  for (int64_t r = 0; r < x.rows; ++r)
    for (const int64_t p : read)
      for (int64_t c = 0; c < x.channels; ++c) zeros.zero.push_back(std::abs(x.at(r, p, c)) <= floor ? 1 : 0);
  return zeros;
}

struct Frequencies {
  Matrix share;   ///< how often each channel is zero at each position: [channels, positions]
  Vector places;  ///< by position: rows counted there
};

/// Places where every channel is zero are padding and are not counted.
Frequencies zero_frequencies(const Zeros& zeros) {
  Frequencies out{.share = Matrix::Zero(zeros.channels, zeros.positions), .places = Vector::Zero(zeros.positions)};
  std::vector<int64_t> counts(static_cast<size_t>(zeros.channels));
  for (int64_t p = 0; p < zeros.positions; ++p) {
    std::fill(counts.begin(), counts.end(), 0);
    for (int64_t r = 0; r < zeros.rows; ++r) {
      const uint8_t* begin = zeros.at(r, p);
      if (std::all_of(begin, begin + zeros.channels, [](uint8_t z) { return z != 0; })) continue;
      out.places(p) += 1;
      for (size_t c = 0; c < counts.size(); ++c) counts[c] += begin[c];
    }
    for (int64_t c = 0; c < zeros.channels && out.places(p) > 0; ++c)
      out.share(c, p) = static_cast<double>(counts[static_cast<size_t>(c)]) / out.places(p);
  }
  return out;
}

uint64_t mix(uint64_t x) {  // splitmix64 (Steele et al., 2014)
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

uint64_t edge_colour(uint64_t colour, int64_t position) { return mix(colour ^ mix(static_cast<uint64_t>(position))); }

struct Colours {
  std::vector<uint64_t> rows, channels;
};

/// A colour becomes a hash of itself and of the multiset of colours at the other ends of its edges.
Colours refine(const Zeros& zeros) {
  Colours colours{.rows = std::vector<uint64_t>(static_cast<size_t>(zeros.rows), 1),
                  .channels = std::vector<uint64_t>(static_cast<size_t>(zeros.channels), 2)};
  for (int round = 0; round < kRounds; ++round) {
    std::vector<uint64_t> sums(colours.channels.size());
    for (int64_t r = 0; r < zeros.rows; ++r)
      for (int64_t p = 0; p < zeros.positions; ++p) {
        const uint64_t colour = edge_colour(colours.rows[static_cast<size_t>(r)], p);
        const uint8_t* zero = zeros.at(r, p);
        for (size_t c = 0; c < sums.size(); ++c) sums[c] += colour * zero[c];
      }
    for (size_t c = 0; c < sums.size(); ++c) colours.channels[c] = mix(colours.channels[c] + sums[c]);

    std::vector<uint64_t> table;
    for (int64_t p = 0; p < zeros.positions; ++p)
      for (const uint64_t colour : colours.channels) table.push_back(edge_colour(colour, p));
    for (int64_t r = 0; r < zeros.rows; ++r) {
      uint64_t sum = 0;
      const uint8_t* zero = zeros.at(r, 0);
      for (size_t i = 0; i < table.size(); ++i) sum += table[i] * zero[i];
      colours.rows[static_cast<size_t>(r)] = mix(colours.rows[static_cast<size_t>(r)] + sum);
    }
  }
  return colours;
}

/// For every known colour the place of the same colour in `blinded`, -1 unless it is unique on both sides.
std::vector<int> match_unique(const std::vector<uint64_t>& known, const std::vector<uint64_t>& blinded) {
  using Place = std::pair<uint64_t, int>;
  const auto unique = [](const std::vector<uint64_t>& colours) {
    std::vector<Place> sorted, kept;
    for (size_t i = 0; i < colours.size(); ++i) sorted.emplace_back(colours[i], static_cast<int>(i));
    std::sort(sorted.begin(), sorted.end());
    for (size_t i = 0; i < sorted.size(); ++i) {
      const bool is_same_before = i > 0 && sorted[i - 1].first == sorted[i].first;
      const bool is_same_after = i + 1 < sorted.size() && sorted[i + 1].first == sorted[i].first;
      if (!is_same_before && !is_same_after) kept.push_back(sorted[i]);
    }
    return kept;
  };
  std::vector<int> places(known.size(), -1);
  const std::vector<Place> there = unique(blinded);
  for (const auto& [colour, index] : unique(known)) {
    const auto found = std::lower_bound(there.begin(), there.end(), Place{colour, -1});
    if (found != there.end() && found->first == colour) places[static_cast<size_t>(index)] = found->second;
  }
  return places;
}

/// Columns of `a` and `b` that tell channels apart, for the sum of squared distances: the mean over positions, and what
/// a position adds to it, each weighted by the share of its variance over channels that is not sampling noise.
struct Signatures {
  Matrix a, b;
};
Signatures signatures_of(const Frequencies& first, const Frequencies& second) {
  const Vector places = first.places.cwiseMin(second.places);
  const double all = std::max(1.0, places.sum());
  const auto components = [&](const Frequencies& f) {
    const Matrix even = f.share.array().sqrt().asin();  // on this scale all frequencies are equally uncertain
    const Vector mean = even * places / all;
    Matrix out(even.rows(), even.cols() + 1);
    out << mean, even.colwise() - mean;
    return out;
  };
  Signatures out{.a = components(first), .b = components(second)};
  for (Eigen::Index k = 0; k < out.a.cols(); ++k) {
    const double noise = 1 / (4 * (k == 0 ? all : std::max(1.0, places(k - 1))));
    const double variance = (out.a.col(k).array() - out.a.col(k).mean()).square().mean();
    // Estimates of variance from few channels are rough: twice the noise is not yet taken for a difference.
    const double weight = variance > 2 * noise ? std::sqrt(1 / noise * (variance - noise) / variance) : 0;
    out.a.col(k) *= weight;
    out.b.col(k) *= weight;
  }
  return out;
}

std::vector<int> match_nearest(const Frequencies& first, const Frequencies& second, Random& random) {
  const auto [a, b] = signatures_of(first, second);
  Matrix gain(a.rows(), b.rows());
  for (Eigen::Index i = 0; i < a.rows(); ++i)
    for (Eigen::Index j = 0; j < b.rows(); ++j) gain(i, j) = -(a.row(i) - b.row(j)).squaredNorm();
  return assign_ties_at_random(gain, random);
}

/// Fills what is -1 in `columns` from frequencies of zeros.
void match_left_over(std::vector<int>& columns, const Zeros& known, const Zeros& blinded, Random& random) {
  std::vector<int> left, free;
  std::vector<bool> taken(columns.size());
  for (size_t c = 0; c < columns.size(); ++c)
    if (columns[c] < 0)
      left.push_back(static_cast<int>(c));
    else
      taken[static_cast<size_t>(columns[c])] = true;
  if (left.empty()) return;
  for (size_t c = 0; c < taken.size(); ++c)
    if (!taken[c]) free.push_back(static_cast<int>(c));
  Frequencies a = zero_frequencies(known), b = zero_frequencies(blinded);
  a.share = Matrix(a.share(left, Eigen::all));
  b.share = Matrix(b.share(free, Eigen::all));
  const std::vector<int> matched = match_nearest(a, b, random);
  for (size_t i = 0; i < left.size(); ++i)
    columns[static_cast<size_t>(left[i])] = free[static_cast<size_t>(matched[i])];
}

struct Guess {
  std::vector<int> columns;  ///< by known channel
  std::vector<int> rows;     ///< by known row; -1: not found
};

Guess guess_order(const Zeros& a, const Zeros& b, Random& random) {
  const Colours colours_a = refine(a), colours_b = refine(b);
  Guess guess{.columns = match_unique(colours_a.channels, colours_b.channels),
              .rows = match_unique(colours_a.rows, colours_b.rows)};
  match_left_over(guess.columns, a, b, random);
  return guess;
}

/// Share of zeros at places where not every channel is zero.
double zero_share(const Zeros& zeros) { return zero_frequencies(zeros).share.mean(); }

std::vector<int> numbers_to(int64_t size) {
  std::vector<int> out;
  for (int64_t i = 0; i < size; ++i) out.push_back(static_cast<int>(i));
  return out;
}

void score_order(const StepTruth& truth, const Zeros& known, const Zeros& blinded, const Ownership& rows,
                 std::array<const char*, 2> targets, Random& random, std::vector<Finding>& findings) {
  const Guess guess = guess_order(known, blinded, random);

  const std::vector<int> from = numbers_to(known.channels), to = largest_columns(truth.inner);
  findings.push_back(scored(kNumber, targets[0], "share of channels placed", share_linked(guess.columns, from, to),
                            linking_chance(from, to, known.channels, random)));

  if (blinded.rows < 2 || rows.owner.empty()) {
    findings.push_back(not_applicable(kNumber, targets[1], "fewer than two rows"));
    return;
  }
  int right = 0;
  for (size_t i = 0; i < rows.owner.size(); ++i)
    if (guess.rows[static_cast<size_t>(rows.owner[i])] == rows.blinded[i]) ++right;
  const auto count = static_cast<double>(rows.owner.size()), guessing = 1.0 / static_cast<double>(blinded.rows);
  findings.push_back(scored(kNumber, targets[1], "share of rows identified", right / count,
                            {.mean = guessing, .stddev = std::sqrt(guessing / count)}));
}

Finding find_visible_zeros(const Zeros& blinded, const Zeros& known) {
  const double plain = zero_share(known);
  const double score = plain > 0 ? std::min(1.0, zero_share(blinded) / plain) : 0;
  return scored(kNumber, "zeros in plain sight", "share of zeros visible", score, {});
}

/// The first later step whose X~ has an inner key of its own.
std::optional<size_t> other_key_step(const LayerCase& layer) {
  const Matrix& first = layer.truth.front().inner;
  for (size_t i = 1; i < layer.view.size() && i < layer.truth.size(); ++i) {
    const Matrix& inner = layer.truth[i].inner;
    if (layer.view[i].x.empty() || layer.view[i].x.channels != layer.in() || inner.rows() != first.rows()) continue;
    if ((inner - first).norm() > 1e-3 * first.norm()) return i;
  }
  return std::nullopt;
}

Finding link_steps(const LayerCase& layer, Random& random) {
  const char* target = "channels linked between two steps";
  const std::optional<size_t> other = other_key_step(layer);
  if (!other) return not_applicable(kNumber, target, "no two recorded steps have different keys");
  const Operand& later = layer.view[*other].x;  // often holds fewer rows
  const Frequencies first = zero_frequencies(zeros_of(layer.view.front().x, later.rows));
  const Frequencies second = zero_frequencies(zeros_of(later, later.rows));
  if (first.places.size() != second.places.size())
    return not_applicable(kNumber, target, "tiles differ between the steps");
  const std::vector<int> guess = match_nearest(first, second, random);

  const std::vector<int> from = largest_columns(layer.truth.front().inner);
  const std::vector<int> to = largest_columns(layer.truth[*other].inner);
  return scored(kNumber, target, "share of channels linked", share_linked(guess, from, to),
                linking_chance(from, to, layer.in(), random));
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  const StepView& view = layer.view.front();
  const StepTruth& truth = layer.truth.front();
  const char* all = "order of channels and rows, from zeros";
  if (view.x.empty() || !view.x.same_shape(truth.x) || truth.inner.rows() != view.x.channels)
    return {not_applicable(kNumber, all, "X was not recorded")};
  if (view.x.channels < 2) return {not_applicable(kNumber, all, "a single channel")};
  const Zeros blinded = zeros_of(view.x, view.x.rows), known = zeros_of(truth.x, truth.x.rows);
  if (!(zero_share(known) > 0)) return {not_applicable(kNumber, all, "X has no zeros")};

  std::vector<Finding> findings;
  const Ownership rows = owners_of_rows(view.x, inverse_of(truth.inner), truth.x, kScoredRows, {}, random);
  score_order(truth, known, blinded, rows, {"order of channels, from the true zeros", "rows, from the true zeros"},
              random, findings);
  for (Finding& finding : findings) finding.given_truth = true;
  const std::array<const char*, 2> by_model = {"order of channels, from zeros of a model of the attacker's",
                                               "rows, from zeros of a model of the attacker's"};
  if (layer.knowledge.activations.same_shape(view.x)) {
    score_order(truth, zeros_of(layer.knowledge.activations, view.x.rows), blinded, rows, by_model, random, findings);
  } else {
    for (const char* target : by_model)
      findings.push_back(not_applicable(kNumber, target, "no activations of another model"));
  }
  findings.push_back(find_visible_zeros(blinded, known));
  findings.push_back(link_steps(layer, random));
  return findings;
}

}  // namespace
}  // namespace zero_pattern

const Attack kZeroPattern{7,
                          "zero pattern",
                          "Do the zeros that ReLU leaves show which channel and which sample is which?",
                          "nothing to see zeros; for the order, a model that is zero at the same places",
                          "colour refinement: Weisfeiler and Leman, 1968",
                          zero_pattern::run};

}  // namespace tempo::audit
