// A protection that lays its operands out in panels: workers are told, and the results are those of plain LibTorch.
#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <map>
#include <set>
#include <string>

#include "nn/offloaded.h"
#include "offload/transport/inprocess.h"
#include "support/rows_in_panels.h"

namespace tempo::nn {
namespace panels_test {

using contract::PanelLayout;
using torch::Tensor;

/// Notes how what it gets and gives is laid out.
class NotingWorker final : public contract::Worker {
 public:
  contract::WorkerDescription describe() override { return inner_->describe(); }
  contract::Buffer allocate(const contract::TensorSpec& spec) override { return inner_->allocate(spec); }
  void put(contract::OperandId id, contract::Buffer operand) override {
    const contract::TensorSpec& spec = operand.spec();
    (spec.panels.is_set() ? rows_in_panels : row_major_rows) += spec.shape.front();
    if (spec.panels.is_set()) widths.insert(spec.panels.width);
    inner_->put(id, std::move(operand));
  }
  void free(std::vector<contract::OperandId> ids) override { inner_->free(std::move(ids)); }
  std::future<contract::Buffer> submit(contract::Operation operation) override {
    if (const auto* forward = std::get_if<contract::Forward>(&operation)) replies.push_back(forward->reply_panels);
    if (const auto* dx = std::get_if<contract::InputGradient>(&operation)) replies.push_back(dx->reply_panels);
    return inner_->submit(std::move(operation));
  }

  int64_t rows_in_panels = 0, row_major_rows = 0;
  std::set<int64_t> widths;
  std::vector<PanelLayout> replies;

 private:
  std::shared_ptr<contract::Worker> inner_ = offload::make_inprocess_worker("cpu", 1);
};

double relative_error(const Tensor& got, const Tensor& want) {
  return ((got - want).norm() / want.norm()).item<double>();
}

class Panels : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    std::vector<std::string> names;
    for (int i = 0; i < GetParam(); ++i) {
      names.push_back("worker " + std::to_string(i));
      workers_[names.back()] = std::make_shared<NotingWorker>();
    }
    const auto connect = [this](const std::string& name) -> std::shared_ptr<contract::Worker> {
      return workers_.at(name);
    };
    BlindingOptions options;
    options.protection = "rows-in-panels";
    options.conv_tile = 1;
    session_ = std::make_unique<offload::Session>(
        options, SecretKey::random(),
        std::make_unique<offload::WorkerPool>(names, connect, connect, offload::PoolOptions{}), 2,
        integrity::PolicySetting{.policy = integrity::Policy::kAlways, .probability = 1});
  }
  void expect_equal(int64_t in, int64_t out, int64_t kernel) {
    torch::manual_seed(3);
    const Tensor x = torch::randn({40, in, 8, 8}, torch::kFloat64).requires_grad_(),
                 w = torch::randn({out, in, kernel, kernel}, torch::kFloat64).requires_grad_();
    const Tensor want = torch::conv2d(x, w, {}, 1, kernel / 2), dy = torch::randn_like(want);
    want.backward(dy);
    const Tensor want_dx = x.grad().clone(), want_dw = w.grad().clone();
    x.mutable_grad() = Tensor();
    w.mutable_grad() = Tensor();
    const auto layer = std::make_shared<offload::BilinearProduct>(
        *session_, "layer", offload::ProductGeometry{in, out, kernel, kernel, 1, kernel / 2, 1});
    session_->workers().begin_step();
    session_->begin_pass({obfuscation::Period::kStep, ++step_, 0});
    const Tensor got = offloaded_conv2d(layer, x, w, {});
    got.backward(dy);
    EXPECT_LT(relative_error(got, want), 1e-10);
    EXPECT_LT(relative_error(x.grad(), want_dx), 1e-10);
    EXPECT_LT(relative_error(w.grad(), want_dw), 1e-10);
  }

  std::map<std::string, std::shared_ptr<NotingWorker>> workers_;
  std::unique_ptr<offload::Session> session_;
  uint64_t step_ = 0;
};

TEST_P(Panels, ProductsEqualPlainAndWorkersAreToldTheLayout) {
  for (const int64_t kernel : {1, 3}) expect_equal(32, 48, kernel);
  for (const auto& [name, worker] : workers_) {
    EXPECT_GT(worker->rows_in_panels, 0) << name;
    EXPECT_EQ(worker->widths, std::set<int64_t>{16}) << name;
    ASSERT_EQ(worker->replies.size(), 4U) << name;
    for (const PanelLayout& panels : worker->replies) EXPECT_EQ(panels, testing::RowsInPanels::kPanels);
  }
}

TEST_P(Panels, WorkersGetWholeBlocksOfRows) {
  expect_equal(16, 16, 1);  // 2,560 rows, sent as x and as dy
  int64_t rows = 0;
  for (const auto& [name, worker] : workers_) {
    EXPECT_EQ(worker->rows_in_panels % testing::RowsInPanels::kPanels.rows, 0) << name;
    rows += worker->rows_in_panels;
  }
  EXPECT_EQ(rows, 2 * 2560);
}

TEST_P(Panels, ChannelsThatAreNotWholePanelsStayRowByRow) {
  expect_equal(32, 10, 3);
  for (const auto& [name, worker] : workers_) {
    EXPECT_EQ(worker->rows_in_panels, 0) << name;
    EXPECT_GT(worker->row_major_rows, 0) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Workers, Panels, ::testing::Values(1, 2));

}  // namespace panels_test
}  // namespace tempo::nn
