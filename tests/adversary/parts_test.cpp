// Operands of two parts, each for workers of its own: the results are those of the whole, whoever is lost or lies, and
// no worker ever holds both parts of anything.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "audit/lying_worker.h"
#include "obfuscation/protection.h"
#include "offload/bilinear_product.h"
#include "offload/transport/inprocess.h"
#include "support/temp_folder.h"

namespace tempo::offload {
namespace parts_test {

using ::testing::HasSubstr;
using testing::message_of;
using Values = std::vector<double>;

/// x = a + b: a is noise, b the rest. Keys are the identity, so weights are public.
class InTwo final : public obfuscation::Protection {
 public:
  [[nodiscard]] obfuscation::Key row_key(Csprng&, uint32_t size) const override { return {.size = size, .rounds = {}}; }
  [[nodiscard]] obfuscation::Key channel_key(Csprng&, uint32_t size) const override {
    return {.size = size, .rounds = {}};
  }
  [[nodiscard]] bool is_orthogonal() const override { return true; }
  [[nodiscard]] int row_rounds(uint64_t) const override { return 0; }
  [[nodiscard]] int channel_rounds() const override { return 0; }
  [[nodiscard]] bool protects() const override { return false; }
  [[nodiscard]] std::string_view leak() const override {
    return "Two workers that pool what they hold see everything.";
  }
  [[nodiscard]] double key_bits(int64_t, int) const override { return 0; }
  [[nodiscard]] int parts() const override { return 2; }
  void split(const obfuscation::ConstPlainTensor& x, int64_t elements, Csprng& random,
             const std::vector<obfuscation::PlainTensor>& parts) const override {
    const auto* whole = static_cast<const double*>(x.data);
    auto *a = static_cast<double*>(parts[0].data), *b = static_cast<double*>(parts[1].data);
    for (int64_t i = 0; i < elements; ++i) {
      a[i] = random.normal();
      b[i] = whole[i] - a[i];
    }
  }
};
const obfuscation::RegisteredProtection kInTwo("in-two",
                                               [](const BlindingOptions&) { return std::make_unique<InTwo>(); });

Values to_values(const Buffer& buffer) {
  Values values(static_cast<size_t>(buffer.spec().elements()));
  if (buffer.spec().type == ElementType::kFloat64) std::memcpy(values.data(), buffer.data(), buffer.bytes());
  return values;
}

/// Remembers all that it was ever sent, over all its connections.
class CuriousWorker final : public Worker {
 public:
  CuriousWorker(std::shared_ptr<Worker> inner, std::string name) : inner_(std::move(inner)), name_(std::move(name)) {}
  WorkerDescription describe() override {
    WorkerDescription description = inner_->describe();
    description.name = name_;
    return description;
  }
  Buffer allocate(const TensorSpec& spec) override { return inner_->allocate(spec); }
  void put(OperandId id, Buffer operand) override {
    throw_if_dead();
    seen.push_back(to_values(operand));
    inner_->put(id, std::move(operand));
  }
  void free(std::vector<OperandId> ids) override {
    throw_if_dead();
    inner_->free(std::move(ids));
  }
  std::future<Buffer> submit(Operation operation) override {
    if (dies_after-- == 0) is_dead = true;
    throw_if_dead();
    return inner_->submit(std::move(operation));
  }

  std::vector<Values> seen;
  bool is_dead = false;
  int dies_after = -1;

 private:
  void throw_if_dead() const {
    if (is_dead) throw WorkerLostError(name_ + ": the worker ended");
  }
  std::shared_ptr<Worker> inner_;
  std::string name_;
};

/// All rows of `width` values that were seen, ordered by their first value.
std::vector<Values> rows_of(const std::vector<Values>& seen, size_t width) {
  std::vector<Values> rows;
  for (const Values& operand : seen)
    for (size_t from = 0; operand.size() % width == 0 && from < operand.size(); from += width)
      rows.emplace_back(operand.begin() + static_cast<std::ptrdiff_t>(from),
                        operand.begin() + static_cast<std::ptrdiff_t>(from + width));
  std::sort(rows.begin(), rows.end());
  return rows;
}

/// Whether two rows that were seen add up to a row of `whole`.
bool holds_both_parts(const std::vector<Values>& seen, const Values& whole, size_t width) {
  constexpr double kNear = 1e-9;
  const std::vector<Values> rows = rows_of(seen, width);
  for (size_t from = 0; from < whole.size(); from += width)
    for (const Values& a : rows) {
      const double first = whole[from] - a[0];
      auto b = std::lower_bound(rows.begin(), rows.end(), Values{first - kNear});
      for (; b != rows.end() && (*b)[0] <= first + kNear; ++b) {
        double apart = 0;
        for (size_t k = 0; k < width; ++k) apart = std::max(apart, std::abs(a[k] + (*b)[k] - whole[from + k]));
        if (apart < kNear) return true;
      }
    }
  return false;
}

constexpr int64_t kRows = 24, kIn = 7, kOut = 5;

/// A linear layer with a frozen weight over named workers.
class Parts : public ::testing::Test {
 protected:
  void add(const std::string& name, std::shared_ptr<Worker> inner = make_inprocess_worker("cpu", 1)) {
    workers_[name] = std::make_shared<CuriousWorker>(std::move(inner), name);
  }
  std::unique_ptr<WorkerPool> pool(const std::vector<std::string>& names) {
    const auto connect = [this](const std::string& name) -> std::shared_ptr<Worker> {
      const std::lock_guard lock(mutex_);
      const auto found = workers_.find(name);
      if (found == workers_.end() || found->second->is_dead) throw WorkerLostError(name + ": no worker answers");
      return found->second;
    };
    return std::make_unique<WorkerPool>(names, connect, connect, PoolOptions{});
  }
  void begin(const std::vector<std::string>& names) {
    BlindingOptions options;
    options.protection = "in-two";
    session_ =
        std::make_unique<Session>(options, SecretKey::random(), pool(names), 1,
                                  integrity::PolicySetting{.policy = integrity::Policy::kAlways, .probability = 1});
    layer_ = std::make_unique<BilinearProduct>(*session_, "fc", ProductGeometry{.in = kIn, .out = kOut});
    w_ = draw(kOut * kIn);
    wholes_.clear();
  }
  /// One forward and backward product, compared with plain arithmetic.
  void step() {
    session_->workers().begin_step();
    session_->begin_pass({obfuscation::Period::kStep, steps_++, 0});
    const Values x = draw(kRows * kIn), dy = draw(kRows * kOut);
    Values y(static_cast<size_t>(kRows * kOut)), dx(static_cast<size_t>(kRows * kIn));
    const auto view = [](const Values& v) { return obfuscation::ConstPlainTensor(ElementType::kFloat64, v.data()); };
    auto call = layer_->forward(ImageShape{.images = kRows}, {view(x), view(w_)}, {{ElementType::kFloat64, y.data()}});
    layer_->backward(*call, view(dy), {.dx = {ElementType::kFloat64, dx.data()}, .want_dw = false});
    for (int64_t n = 0; n < kRows; ++n) {
      for (int64_t o = 0; o < kOut; ++o) {
        double sum = 0;
        for (int64_t i = 0; i < kIn; ++i) sum += at(x, n, kIn, i) * at(w_, o, kIn, i);
        EXPECT_NEAR(at(y, n, kOut, o), sum, 1e-10);
      }
      for (int64_t i = 0; i < kIn; ++i) {
        double sum = 0;
        for (int64_t o = 0; o < kOut; ++o) sum += at(dy, n, kOut, o) * at(w_, o, kIn, i);
        EXPECT_NEAR(at(dx, n, kIn, i), sum, 1e-10);
      }
    }
    wholes_.push_back({x, kIn});
    wholes_.push_back({dy, kOut});
  }
  /// The check that this suite is about, with its victim: what all workers hold together does show every operand.
  void expect_no_worker_holds_both_parts() {
    std::vector<Values> together;
    for (const auto& [name, worker] : workers_) {
      together.insert(together.end(), worker->seen.begin(), worker->seen.end());
      for (const auto& [whole, width] : wholes_)
        EXPECT_FALSE(holds_both_parts(worker->seen, whole, static_cast<size_t>(width))) << name;
    }
    for (const auto& [whole, width] : wholes_)
      EXPECT_TRUE(holds_both_parts(together, whole, static_cast<size_t>(width))) << "the check finds nothing";
  }
  [[nodiscard]] MemberState state_of(const std::string& name) const {
    for (const Member& member : session_->workers().members())
      if (member.uri == name) return member.state;
    return MemberState::kLeft;
  }

  std::map<std::string, std::shared_ptr<CuriousWorker>> workers_;
  std::mutex mutex_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<BilinearProduct> layer_;

 private:
  static double at(const Values& v, int64_t row, int64_t width, int64_t column) {
    return v[static_cast<size_t>(row * width + column)];
  }
  Values draw(int64_t count) {
    std::normal_distribution<double> normal;
    Values values(static_cast<size_t>(count));
    for (double& value : values) value = normal(random_);
    return values;
  }

  std::mt19937_64 random_{20261130};
  Values w_;
  std::vector<std::pair<Values, int64_t>> wholes_;
  uint64_t steps_ = 0;
};

TEST_F(Parts, TwoWorkersGiveTheResultOfTheWhole) {
  for (const char* name : {"a", "b"}) add(name);
  begin({"a", "b"});
  for (int i = 0; i < 3; ++i) step();
  expect_no_worker_holds_both_parts();
}

TEST_F(Parts, FourWorkersInTwoGroupsShareRowsWithinTheirGroup) {
  for (const char* name : {"a", "b", "c", "d"}) add(name);
  begin({"a", "b", "c", "d"});
  for (int i = 0; i < 3; ++i) step();
  for (const auto& [name, worker] : workers_) EXPECT_FALSE(worker->seen.empty()) << name;
  expect_no_worker_holds_both_parts();
}

TEST_F(Parts, AWorkerThatIsLostIsReplacedByOneOfItsGroupOnly) {
  for (const int after : {0, 1, 3}) {
    SCOPED_TRACE("dies after " + std::to_string(after) + " operations");
    workers_.clear();
    for (const char* name : {"a", "b", "c", "d"}) add(name);
    begin({"a", "b", "c", "d"});
    workers_["a"]->dies_after = after;
    for (int i = 0; i < 3; ++i) step();
    EXPECT_TRUE(workers_["a"]->is_dead);
    EXPECT_TRUE(state_of("a") == MemberState::kAbsent);
    expect_no_worker_holds_both_parts();
  }
}

TEST_F(Parts, AWorkerThatComesBackGetsPartsOfItsGroupOnly) {
  for (const char* name : {"a", "b", "c", "d"}) add(name);
  begin({"a", "b", "c", "d"});
  step();
  workers_["b"]->is_dead = true;
  step();
  workers_["b"]->is_dead = false;
  for (int i = 0; i < 200 && state_of("b") != MemberState::kActive; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    session_->workers().begin_step();
  }
  EXPECT_TRUE(state_of("b") == MemberState::kActive);
  step();
  expect_no_worker_holds_both_parts();
}

TEST_F(Parts, ALiarIsFoundByWorkersOfItsGroup) {
  for (const char* name : {"a", "b", "d"}) add(name);
  const auto liar = std::make_shared<audit::LyingWorker>(make_inprocess_worker("cpu", 1), 7);
  add("c", liar);
  begin({"a", "b", "c", "d"});
  step();
  liar->arm(audit::Lie::kElement, 1, 0);
  step();
  EXPECT_TRUE(state_of("c") == MemberState::kQuarantined);
  for (const char* honest : {"a", "b", "d"}) EXPECT_TRUE(state_of(honest) == MemberState::kActive) << honest;
  step();
  expect_no_worker_holds_both_parts();
}

TEST_F(Parts, AGroupWithoutWorkersEndsTheStepInsteadOfAskingTheOther) {
  for (const char* name : {"a", "b"}) add(name);
  begin({"a", "b"});
  step();
  workers_["b"]->is_dead = true;
  EXPECT_THROW(step(), WorkerLostError);
  expect_no_worker_holds_both_parts();
}

TEST_F(Parts, FewerWorkersThanPartsAreRefused) {
  add("a");
  EXPECT_THAT(message_of<InputError>([&] { begin({"a"}); }), HasSubstr("workers: got 1, expected at least 2"));
}

TEST_F(Parts, TheGradientOfAWeightIsRefused) {
  for (const char* name : {"a", "b"}) add(name);
  begin({"a", "b"});
  session_->begin_pass({obfuscation::Period::kStep, 0, 0});
  Values x(kRows * kIn, 1), w(kOut * kIn, 1), y(kRows * kOut), dx(x.size()), dw(w.size());
  const auto view = [](Values& v) { return obfuscation::PlainTensor{ElementType::kFloat64, v.data()}; };
  auto call = layer_->forward(ImageShape{.images = kRows}, {view(x), view(w)}, {view(y)});
  EXPECT_THAT(message_of<InputError>([&] {
                layer_->backward(*call, view(y), {view(dx), view(dw)});
              }),
              HasSubstr("expected a frozen weight"));
}

}  // namespace parts_test
}  // namespace tempo::offload
