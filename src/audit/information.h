/// Measures of information, for reporting only: they say how many keys there are, or how one entry relates to another,
/// and nothing about what an attack can do. No attack or verdict reads them.
#pragma once

#include "audit/case.h"
#include "tempo/options.h"

namespace tempo::audit {

/// log2 of the number of keys that the scheme can draw for a dimension of so many entries. Different draws can be the
/// same map, so this is an upper bound on the key's entropy; and a key is drawn from 256 bits, which bound it too.
/// Real scales count with 23 bits of mantissa.
double row_key_bits(const BlindingOptions& blinding, int64_t rows);
double channel_key_bits(const BlindingOptions& blinding, int64_t channels);

/// Effective number of plain channels in one of a mixture: 1 / (mean over columns of the sum of fourth powers), for
/// columns of unit length. 1 for a permutation, n for entries of one size, about n / 3 for a random rotation; what
/// mixing divides the excess kurtosis by.
double effective_count(const Matrix& orthogonal);

/// Mutual information in bits between the entries of X~ and X at the same place, as two random variables: histogram
/// estimate over equally full bins (16 by 16), Miller-Madow corrected, at least 0.
/// Kraskov et al. (2004) discuss why such estimates say little in high dimension.
double mutual_information_bits(const Operand& blinded, const Operand& plain);

}  // namespace tempo::audit
