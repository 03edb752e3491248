/// Large least-squares problems of few terms an equation; compiled once, like decompositions.h.
#pragma once

#include <cstdint>
#include <vector>

#include "audit/operand.h"

namespace tempo::audit {

/// Equations  sum of coefficient x[unknown] = right side.
class SparseEquations {
 public:
  struct Term {
    int64_t unknown;
    double coefficient;
  };
  explicit SparseEquations(int64_t unknowns) : unknowns_(unknowns) {}
  void add(const std::vector<Term>& terms, double right_side);
  /// @param ridge  keeps unknowns that no equation determines near zero; relative to the largest diagonal entry.
  [[nodiscard]] Vector solve(double ridge) const;

 private:
  struct Entry {
    int64_t equation;
    Term term;
  };
  int64_t unknowns_;
  std::vector<Entry> entries_;
  std::vector<double> right_sides_;
};

}  // namespace tempo::audit
