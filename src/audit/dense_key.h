/// Keys as dense matrices, for scoring and for small victims.
#pragma once

#include "audit/operand.h"
#include "obfuscation/key.h"

namespace tempo::audit {

/// The matrix B by which the key, used in this gathering form, turns a row vector v into v B:
/// for an inner key in form kDirect this is M of  X~ = L X M;  for a left key in form kDirect it is L^T.
Matrix dense_key(const obfuscation::Key& key, obfuscation::Form form);

/// The effective number of rows that one row of L X mixes: 1 / mean_j sum_i L_ij^4 / (sum_i L_ij^2)^2. 1 for a
/// permutation, n for a dense key with entries of one size. Of large keys a few columns are looked at.
double effective_rows_mixed(const obfuscation::Key& left);

}  // namespace tempo::audit
