#include "audit/step_blinder.h"

#include "audit/dense_key.h"

namespace tempo::audit {

using obfuscation::Form;
using obfuscation::Key;

namespace {

Operand transform_if_there(const Matrix& left, const Operand& in, const Matrix& right) {
  return in.empty() ? Operand() : transform(left, in, right);
}

}  // namespace

StepBlinder::StepBlinder(const BlindingOptions& blinding, const SecretKey& secret, int64_t rows, int64_t in,
                         int64_t out)
    : reuse_(blinding.reuse),
      random_(secret),
      protection_(obfuscation::make_protection(blinding)),
      rows_(static_cast<uint32_t>(rows)),
      in_(static_cast<uint32_t>(in)),
      out_(static_cast<uint32_t>(out)) {
  renew_channels();
}

void StepBlinder::renew_left(Keys& keys) {
  const Key key = protection_->row_key(random_, rows_);
  keys.left = dense_key(key, Form::kDirect).transpose();
  keys.left_inverse_t = dense_key(key, Form::kInverseTranspose).transpose();
  keys.rows_mixed = effective_rows_mixed(key);
}

void StepBlinder::renew_inner(Keys& keys) {
  const Key key = protection_->channel_key(random_, in_);
  keys.inner = dense_key(key, Form::kDirect);
  keys.inner_inverse_t = dense_key(key, Form::kInverseTranspose);
}

void StepBlinder::renew_right(Keys& keys) {
  const Key key = protection_->channel_key(random_, out_);
  keys.right = dense_key(key, Form::kDirect);
  keys.right_inverse_t = dense_key(key, Form::kInverseTranspose);
}

void StepBlinder::renew_channels() {
  renew_inner(keys_);
  renew_right(keys_);
}

StepView StepBlinder::blind(StepTruth& truth) {
  renew_left(keys_);
  truth.inner = keys_.inner;
  truth.right = keys_.right;
  truth.rows_mixed = keys_.rows_mixed;

  Keys for_dx = keys_, for_dw = keys_;
  const bool shares_dy = reuse_ == Reuse::kFull || reuse_ == Reuse::kSplit;
  if (!shares_dy) {
    renew_left(for_dx);
    renew_right(for_dw);
  }
  if (reuse_ == Reuse::kSplit) {
    renew_inner(for_dx);
    renew_right(for_dx);
    for_dw.right = for_dx.right;
    for_dw.right_inverse_t = for_dx.right_inverse_t;
  }
  if (reuse_ == Reuse::kNone) {
    renew_inner(for_dx);
    renew_right(for_dx);
    renew_left(for_dw);
    renew_inner(for_dw);
  }
  truth.inner_again = for_dx.inner;
  truth.right_again = for_dw.right;
  const auto blind_x = [&](const Keys& k) { return transform_if_there(k.left, truth.x, k.inner); };
  const auto blind_w = [&](const Keys& k) {
    return transform_if_there(k.right.transpose(), truth.w, k.inner_inverse_t);
  };
  const auto blind_dy = [&](const Keys& k) {
    return transform_if_there(k.left_inverse_t, truth.dy, k.right_inverse_t);
  };
  StepView view;
  view.x = blind_x(keys_);
  view.w = blind_w(keys_);
  view.y = transform_if_there(keys_.left, truth.y, keys_.right);
  view.dy = blind_dy(for_dx);
  view.dx = transform_if_there(for_dx.left_inverse_t, truth.dx, for_dx.inner_inverse_t);
  view.dw = transform_if_there(for_dw.right_inverse_t.transpose(), truth.dw, for_dw.inner);
  if (!shares_dy) view.dy_for_dw = blind_dy(for_dw);
  if (reuse_ == Reuse::kNone || reuse_ == Reuse::kSplit) view.w_again = blind_w(for_dx);
  if (reuse_ == Reuse::kNone) view.x_again = blind_x(for_dw);
  return view;
}

LayerCase blinded_linear(const BlindingOptions& blinding, const SecretKey& secret, Operand x, Operand w, Operand dy,
                         std::vector<int> labels) {
  StepTruth truth;
  const Matrix plain_x = x.by_row(), plain_w = w.by_row(), plain_dy = dy.by_row();
  truth.y = from_channels(plain_x * plain_w.transpose(), x.rows, 1, 1);
  truth.dx = from_channels(plain_dy * plain_w, x.rows, 1, 1);
  truth.dw = from_channels(plain_dy.transpose() * plain_x, w.rows, 1, 1);
  StepBlinder blinder(blinding, secret, x.rows, x.channels, w.rows);
  truth.x = std::move(x);
  truth.w = std::move(w);
  truth.dy = std::move(dy);
  truth.labels = std::move(labels);
  LayerCase layer;
  layer.view.push_back(blinder.blind(truth));
  layer.truth.push_back(std::move(truth));
  layer.counterfactual = true;
  return layer;
}

}  // namespace tempo::audit
