#include "audit/gradient_case.h"

#include <random>

#include "audit/dense_key.h"
#include "base/csprng.h"
#include "obfuscation/protection.h"

namespace tempo::audit::testing {
namespace {

/// Takes out of every kernel's gradient what lies along the kernel.
void make_orthogonal(Operand& gradient, const Operand& w) {
  const Matrix kernels = w.by_row();
  Matrix rows = gradient.by_row();
  for (Eigen::Index o = 0; o < rows.rows(); ++o)
    rows.row(o) -= rows.row(o).dot(kernels.row(o)) / kernels.row(o).squaredNorm() * kernels.row(o);
  for (Eigen::Index i = 0; i < rows.size(); ++i)
    gradient.values[static_cast<size_t>(i)] = static_cast<float>(rows.data()[i]);
}

}  // namespace

LayerCase gradient_case(const GradientOptions& o) {
  std::mt19937_64 random(o.seed);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<double> uniform;
  Csprng stream(derive_key(key_from_seed_insecure(o.seed), "audit-test"));
  const auto scheme = obfuscation::make_protection({.protection = o.protection});
  Operand w(o.out, 3, 3, o.in);
  for (float& v : w.values) v = normal(random);
  LayerCase layer;
  layer.layer = "made-up gradients";
  StepTruth truth;
  for (int step = 0; step < o.steps; ++step) {
    if (step % o.steps_per_key == 0) {
      truth.inner = dense_key(scheme->channel_key(stream, static_cast<uint32_t>(o.in)), obfuscation::Form::kDirect);
      truth.right = dense_key(scheme->channel_key(stream, static_cast<uint32_t>(o.out)), obfuscation::Form::kDirect);
    }
    truth.w = w;
    truth.dw = Operand(o.out, 3, 3, o.in);
    for (float& v : truth.dw.values) v = uniform(random) < o.zeros ? 0 : normal(random);
    if (o.before_norm) make_orthogonal(truth.dw, w);
    StepView view;
    view.step = step;
    view.w = transform(truth.right.transpose(), w, truth.inner.inverse().transpose());
    view.dw = transform(truth.right.inverse(), truth.dw, truth.inner);
    layer.view.push_back(std::move(view));
    layer.truth.push_back(truth);
    for (size_t i = 0; i < w.values.size(); ++i) w.values[i] -= 1e-3F * truth.dw.values[i];
  }
  return layer;
}

}  // namespace tempo::audit::testing
