#include "audit/algebra/sparse_least_squares.h"

#include <Eigen/SparseCholesky>

namespace tempo::audit {

void SparseEquations::add(const std::vector<Term>& terms, double right_side) {
  const auto equation = static_cast<int64_t>(right_sides_.size());
  for (const Term& term : terms) entries_.push_back({equation, term});
  right_sides_.push_back(right_side);
}

Vector SparseEquations::solve(double ridge) const {
  using Sparse = Eigen::SparseMatrix<double>;
  std::vector<Eigen::Triplet<double>> triplets;
  triplets.reserve(entries_.size());
  for (const Entry& e : entries_)
    triplets.emplace_back(static_cast<int>(e.equation), static_cast<int>(e.term.unknown), e.term.coefficient);
  Sparse a(static_cast<Eigen::Index>(right_sides_.size()), unknowns_);
  a.setFromTriplets(triplets.begin(), triplets.end());
  Sparse normal = a.transpose() * a;
  const double largest = unknowns_ > 0 ? Vector(normal.diagonal()).maxCoeff() : 0;
  Sparse identity(unknowns_, unknowns_);
  identity.setIdentity();
  normal += ridge * (largest > 0 ? largest : 1) * identity;
  const Eigen::Map<const Vector> right(right_sides_.data(), static_cast<Eigen::Index>(right_sides_.size()));
  const Eigen::SimplicialLDLT<Sparse> factors(normal);
  return factors.solve(a.transpose() * right);
}

}  // namespace tempo::audit
