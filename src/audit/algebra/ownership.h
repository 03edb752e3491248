/// Scoring what is said about blinded rows and channels: which plain row a blinded row mostly is, which column a plain
/// channel mostly went to. Reads the truth: for scoring, never for guessing.
#pragma once

#include <cstdint>
#include <vector>

#include "audit/algebra/matching.h"
#include "audit/attack.h"
#include "audit/operand.h"

namespace tempo::audit {

/// At most `limit` of the numbers 0 to size - 1, evenly spread; all of them if there are no more.
std::vector<int64_t> spread(int64_t size, int64_t limit);

/// At most `limit` vectors of channels, evenly spread over rows and positions: [n, channels]. With `skip_zeros`,
/// vectors that are zero in every channel (padding) are left out; all of them zero gives 0 rows.
Matrix sample_channels(const Operand& operand, int64_t limit, bool skip_zeros);

/// Blinded rows, and the plain row that each of them holds most of.
struct Ownership {
  std::vector<int64_t> blinded;  ///< rows looked at; rows of zeros are left out
  std::vector<int64_t> owner;    ///< plain row, by place in `blinded`
};
/// The owner is the plain row with the largest |cos| to the blinded row after the channel key is undone: exact where
/// rows are only moved and scaled; where they are mixed it stands for the row with the largest coefficient.
/// @param undo       inverse of the channel key: blinded row times undo is a mixture of plain rows; empty: the
/// identity.
/// @param limit      blinded rows to look at, at most.
/// @param positions  positions to compare by; empty: all. Thinned out where there are more than 2,048 features.
Ownership owners_of_rows(const Operand& blinded, const Matrix& undo, const Operand& plain, int64_t limit,
                         const std::vector<int64_t>& positions, Random& random);

/// For every row of a key the column of its largest entry: where a plain channel mostly went.
std::vector<int> largest_columns(const Matrix& key);

/// `assign`, but where several assignments are equally good one is drawn, so that a guess without information does not
/// profit from an order that happens to be plain.
std::vector<int> assign_ties_at_random(const Matrix& gain, Random& random);

/// By channel, whether it is anywhere other than zero. A channel of zeros carries nothing: there is nothing to link.
std::vector<bool> live_channels(const Operand& x);
/// The entries of `columns` whose channel lives, in order.
std::vector<int> only_live(const std::vector<int>& columns, const std::vector<bool>& live);

/// Share of elements e with guess[from[e]] == to[e].
double share_linked(const std::vector<int>& guess, const std::vector<int>& from, const std::vector<int>& to);

/// `share_linked` of guesses that are random permutations. Mixing keys send several channels to one column, so the
/// standard deviation can be larger than that of `permutation_chance`.
Chance linking_chance(const std::vector<int>& from, const std::vector<int>& to, int64_t size, Random& random);

}  // namespace tempo::audit
